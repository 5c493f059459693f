//! Where everything lies in a table of layout version 1; the documentation of the crate says what it means.

/// The first octets of every table.
pub const MAGIC: [u8; 8] = *b"DUNLINHT";
/// The version of the layout that this crate reads and writes.
pub const LAYOUT_VERSION: u32 = 1;
/// The longest name of a service, in octets.
pub const MAX_NAME_OCTETS: usize = 255;
/// The largest table, in octets: offsets are 32 bits wide.
pub const MAX_TABLE_OCTETS: usize = 1 << 30;

/// Offsets within the header.
pub(crate) mod header {
    pub(crate) const OCTETS: usize = 64;
    pub(crate) const VERSION: usize = 8;
    pub(crate) const CHECKSUM: usize = 12;
    pub(crate) const HEARTBEAT: usize = 16;
    pub(crate) const STATE: usize = 24;
    /// The beginning of the octets that the checksum covers.
    pub(crate) const COVERED: usize = 32;
    pub(crate) const GENERATION: usize = 32;
    pub(crate) const CATALOG_INDEX: usize = 40;
    pub(crate) const SERVICES: usize = 48;
    pub(crate) const MAGIC_ADDRESSES: usize = 52;
    pub(crate) const ENDPOINTS: usize = 56;
    pub(crate) const NAME_OCTETS: usize = 60;
    /// The bit of the state that says that a newer file has taken this one's place.
    pub(crate) const SUPERSEDED: u32 = 1;
}

/// Offsets within the record of a service.
pub(crate) mod service {
    pub(crate) const OCTETS: usize = 20;
    pub(crate) const NAME_AT: usize = 0;
    pub(crate) const NAME_LEN: usize = 4;
    pub(crate) const FLAGS: usize = 6;
    pub(crate) const FIRST_ENDPOINT: usize = 8;
    pub(crate) const ENDPOINTS: usize = 12;
    pub(crate) const MAGIC_ADDRESS: usize = 16;
}

/// Offsets within the record of a magic address.
pub(crate) mod magic {
    pub(crate) const OCTETS: usize = 8;
    pub(crate) const SERVICE: usize = 4;
}

/// Offsets within the record of an endpoint.
pub(crate) mod endpoint {
    pub(crate) const OCTETS: usize = 24;
    pub(crate) const PORT: usize = 16;
    pub(crate) const WEIGHT: usize = 18;
    pub(crate) const FLAGS: usize = 20;
}
