//! One endpoint of a service.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::layout::endpoint::{FLAGS, OCTETS, PORT, WEIGHT};
use crate::octets::{at, u16_at};

/// Where a connection can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The address to connect to.
    pub address: IpAddr,
    /// The port to connect to.
    pub port: u16,
    /// Its share of new connections, relative to the others; 0 gets none while others have more.
    pub weight: u16,
    /// The flags of the endpoint.
    pub flags: EndpointFlags,
}

/// The flags of an endpoint. Bits without a name are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EndpointFlags(pub u16);

impl EndpointFlags {
    /// The endpoint is in the host's own zone.
    pub const OWN_ZONE: Self = Self(1);
    /// The endpoint is in the table by the guard's decision, although its checks fail.
    pub const HELD: Self = Self(1 << 1);

    /// Whether all of these bits are set.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl Endpoint {
    /// Reads a record; `None` when it lies beyond the end.
    pub(crate) fn read(octets: &[u8], offset: usize) -> Option<Self> {
        let record: [u8; OCTETS] = at(octets, offset)?;
        let address = Ipv6Addr::from(at::<16>(&record, 0)?);
        Some(Self {
            address: IpAddr::V6(address).to_canonical(),
            port: u16_at(&record, PORT)?,
            weight: u16_at(&record, WEIGHT)?,
            flags: EndpointFlags(u16_at(&record, FLAGS)?),
        })
    }

    pub(crate) fn record(&self) -> [u8; OCTETS] {
        let mapped = |v4: Ipv4Addr| v4.to_ipv6_mapped();
        let address = match self.address {
            IpAddr::V4(v4) => mapped(v4),
            IpAddr::V6(v6) => v6,
        };
        let mut record = [0; OCTETS];
        record[..PORT].copy_from_slice(&address.octets());
        record[PORT..WEIGHT].copy_from_slice(&self.port.to_le_bytes());
        record[WEIGHT..FLAGS].copy_from_slice(&self.weight.to_le_bytes());
        record[FLAGS..FLAGS + 2].copy_from_slice(&self.flags.0.to_le_bytes());
        record
    }
}
