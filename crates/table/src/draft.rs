//! What a writer is given: the header's fields and the services.

use core::net::Ipv4Addr;

use crate::service::ServiceFlags;

/// The fields of a table's header, without the sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Draft {
    /// Grows with every table; the lowest bit is cleared, since an odd one means that a writer is at work.
    pub generation: u64,
    /// The index of the catalog.
    pub catalog_index: u64,
    /// The time, in milliseconds since 1970.
    pub heartbeat: u64,
}

/// One service to be written.
#[derive(Debug, Clone, Copy)]
pub struct ServiceDraft<'n, E> {
    /// The name of the service: ASCII in lower case.
    pub name: &'n str,
    /// The address that stands for it on this host, if there is one; not 0.0.0.0.
    pub magic_address: Option<Ipv4Addr>,
    /// The flags of the service.
    pub flags: ServiceFlags,
    /// Its endpoints, the best first.
    pub endpoints: E,
}
