//! One service as it stands in a table.

use core::iter::FusedIterator;
use core::net::Ipv4Addr;
use core::ops::Range;

use crate::endpoint::Endpoint;
use crate::layout::endpoint;
use crate::layout::service::{
    ENDPOINTS, FIRST_ENDPOINT, FLAGS, MAGIC_ADDRESS, NAME_AT, NAME_LEN, OCTETS,
};
use crate::octets::{at, index, u16_at, u32_at};

/// The flags of a service. Bits without a name are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServiceFlags(pub u16);

impl ServiceFlags {
    /// The guard holds back a sharp drop of the service.
    pub const GUARDED: Self = Self(1);

    /// Whether all of these bits are set.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// One service of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service<'t> {
    /// The name of the service.
    pub name: &'t [u8],
    /// The address that stands for the service on this host, if a program has asked for it.
    pub magic_address: Option<Ipv4Addr>,
    /// The flags of the service.
    pub flags: ServiceFlags,
    /// The records of its endpoints, each of them whole.
    pub(crate) records: &'t [u8],
}

impl<'t> Service<'t> {
    /// Its endpoints, the best first.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints<'t> {
        Endpoints { records: self.records }
    }
}

/// The endpoints of a service.
#[derive(Debug, Clone)]
pub struct Endpoints<'t> {
    records: &'t [u8],
}

impl Endpoints<'_> {
    /// The endpoint with this number. It is found without reading those before it.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<Endpoint> {
        Endpoint::read(self.records, number.checked_mul(endpoint::OCTETS)?)
    }
}

impl Iterator for Endpoints<'_> {
    type Item = Endpoint;

    fn next(&mut self) -> Option<Endpoint> {
        let (record, rest) = self.records.split_at_checked(endpoint::OCTETS)?;
        self.records = rest;
        Endpoint::read(record, 0)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.records.len() / endpoint::OCTETS;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Endpoints<'_> {}
impl FusedIterator for Endpoints<'_> {}

/// A service's record, before what it points to is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    name_at: usize,
    name_len: usize,
    pub(crate) flags: ServiceFlags,
    first: usize,
    count: usize,
    pub(crate) magic_address: Option<Ipv4Addr>,
}

impl Record {
    pub(crate) fn read(octets: &[u8], offset: usize) -> Option<Self> {
        let record: [u8; OCTETS] = at(octets, offset)?;
        let magic = Ipv4Addr::from(at::<4>(&record, MAGIC_ADDRESS)?);
        Some(Self {
            name_at: index(u32_at(&record, NAME_AT)?),
            name_len: usize::from(u16_at(&record, NAME_LEN)?),
            flags: ServiceFlags(u16_at(&record, FLAGS)?),
            first: index(u32_at(&record, FIRST_ENDPOINT)?),
            count: index(u32_at(&record, ENDPOINTS)?),
            magic_address: Some(magic).filter(|address| !address.is_unspecified()),
        })
    }

    /// The range of its name within the names.
    pub(crate) fn name(&self) -> Option<Range<usize>> {
        Some(self.name_at..self.name_at.checked_add(self.name_len)?)
    }

    /// The range of its endpoints' records within those of all services.
    pub(crate) fn endpoints(&self) -> Option<Range<usize>> {
        let start = self.first.checked_mul(endpoint::OCTETS)?;
        Some(start..start.checked_add(self.count.checked_mul(endpoint::OCTETS)?)?)
    }
}
