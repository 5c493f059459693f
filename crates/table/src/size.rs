//! The size of each section, from which follows where each begins.

use crate::draft::ServiceDraft;
use crate::endpoint::Endpoint;
use crate::error::WriteError;
use crate::layout::{MAX_TABLE_OCTETS, endpoint, header, magic, service};

/// The numbers of records in a table, which its size in octets follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// The number of services.
    pub services: usize,
    /// The number of services that have a magic address.
    pub magic_addresses: usize,
    /// The number of endpoints of all services together.
    pub endpoints: usize,
    /// The length of all names together, in octets.
    pub name_octets: usize,
}

impl Size {
    /// The size of the table of these services.
    ///
    /// # Errors
    /// When the table would be too large.
    pub fn of<'n, E>(
        services: impl IntoIterator<Item = ServiceDraft<'n, E>>,
    ) -> Result<Self, WriteError>
    where
        E: IntoIterator<Item = Endpoint>,
    {
        let mut size = Self::default();
        for service in services {
            size.services += 1;
            size.magic_addresses += usize::from(service.magic_address.is_some());
            size.endpoints += service.endpoints.into_iter().count();
            size.name_octets += service.name.len();
            if size.exact_octets() > MAX_TABLE_OCTETS as u64 {
                return Err(WriteError::TooLarge);
            }
        }
        Ok(size)
    }

    /// The octets of the table.
    #[must_use]
    pub fn octets(&self) -> usize {
        usize::try_from(self.exact_octets()).unwrap_or(usize::MAX)
    }

    /// The octets, computed so that no numbers of 32 bits overflow.
    pub(crate) fn exact_octets(&self) -> u64 {
        let section = |count: usize, octets: usize| (count as u64).saturating_mul(octets as u64);
        (header::OCTETS as u64)
            .saturating_add(section(self.services, service::OCTETS))
            .saturating_add(section(self.magic_addresses, magic::OCTETS))
            .saturating_add(section(self.endpoints, endpoint::OCTETS))
            .saturating_add(self.name_octets as u64)
    }

    pub(crate) fn magic_at(&self) -> usize {
        header::OCTETS + self.services * service::OCTETS
    }

    pub(crate) fn endpoints_at(&self) -> usize {
        self.magic_at() + self.magic_addresses * magic::OCTETS
    }

    pub(crate) fn names_at(&self) -> usize {
        self.endpoints_at() + self.endpoints * endpoint::OCTETS
    }
}
