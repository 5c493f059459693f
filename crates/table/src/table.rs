//! The reader.

use core::cmp::Ordering;
use core::net::Ipv4Addr;

use crate::error::TableError;
use crate::layout::{header, magic, service};
use crate::octets::{at, index, u32_at, u64_at};
use crate::service::{Record, Service};
use crate::size::Size;

/// A table over the octets of a file.
///
/// Opening one looks at the header alone. Every look-up checks what it follows, so that a damaged table gives wrong
/// answers or none, but never reads beyond its octets; [`Table::verify`] finds damage.
#[derive(Debug, Clone, Copy)]
pub struct Table<'t> {
    octets: &'t [u8],
    size: Size,
}

impl<'t> Table<'t> {
    /// Opens a table, in a time that does not depend on its size.
    ///
    /// # Errors
    /// When the header is not one, or the octets are more or fewer than it announces.
    pub fn read(octets: &'t [u8]) -> Result<Self, TableError> {
        let size = crate::header::read(octets)?;
        Ok(Self { octets, size })
    }

    /// Checks everything: the checksum, the orders that look-ups rely on, and that every record points into its
    /// section. For use when a file has just been mapped, since it reads the whole table.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(&self) -> Result<(), TableError> {
        if crate::header::sum(self.octets) != u32_at(self.octets, header::CHECKSUM) {
            return Err(TableError::Checksum);
        }
        let mut last: Option<&[u8]> = None;
        for number in 0..self.size.services {
            let Some(service) = self.service(number) else {
                return Err(TableError::Corrupt("a service points outside the table"));
            };
            if last.is_some_and(|last| last >= service.name) {
                return Err(TableError::Corrupt(
                    "the services are not in the order of their names",
                ));
            }
            last = Some(service.name);
        }
        self.verify_magic()
    }

    fn verify_magic(&self) -> Result<(), TableError> {
        let mut last = None;
        for at in 0..self.size.magic_addresses {
            let Some((address, number)) = self.magic(at) else {
                return Err(TableError::Corrupt("a magic address lies outside the table"));
            };
            if last.is_some_and(|last| last >= address) {
                return Err(TableError::Corrupt("the magic addresses are not in order"));
            }
            last = Some(address);
            if self.service(number).and_then(|s| s.magic_address) != Some(address) {
                return Err(TableError::Corrupt("a magic address is not its service's"));
            }
        }
        Ok(())
    }

    /// The numbers of records.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// Grows with every table that an agent writes; even.
    #[must_use]
    pub fn generation(&self) -> u64 {
        u64_at(self.octets, header::GENERATION).unwrap_or(0)
    }

    /// The index of the catalog that the table was made from.
    #[must_use]
    pub fn catalog_index(&self) -> u64 {
        u64_at(self.octets, header::CATALOG_INDEX).unwrap_or(0)
    }

    /// When the agent last said that it lives, in milliseconds since 1970.
    #[must_use]
    pub fn heartbeat(&self) -> u64 {
        u64_at(self.octets, header::HEARTBEAT).unwrap_or(0)
    }

    /// Whether a newer file has taken this one's place.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        u32_at(self.octets, header::STATE).is_some_and(|state| state & header::SUPERSEDED != 0)
    }

    /// All services in the order of their names. Damaged ones are left out.
    pub fn services(&self) -> impl Iterator<Item = Service<'t>> + '_ {
        (0..self.size.services).filter_map(|number| self.service(number))
    }

    /// The service of this name, which may be in any case.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<Service<'t>> {
        let order = |number| Some(compare(self.name(&self.record(number)?)?, name));
        let number = search(self.size.services, order)?;
        self.service(number)
    }

    /// The service that this address stands for.
    #[must_use]
    pub fn find_magic(&self, address: Ipv4Addr) -> Option<Service<'t>> {
        let order = |at| Some(self.magic(at)?.0.cmp(&address));
        let (_, number) = self.magic(search(self.size.magic_addresses, order)?)?;
        self.service(number)
    }

    fn record(&self, number: usize) -> Option<Record> {
        Record::read(self.octets, header::OCTETS + number * service::OCTETS)
    }

    fn name(&self, record: &Record) -> Option<&'t [u8]> {
        self.octets.get(self.size.names_at()..)?.get(record.name()?)
    }

    fn service(&self, number: usize) -> Option<Service<'t>> {
        if number >= self.size.services {
            return None;
        }
        let record = self.record(number)?;
        let endpoints = self.octets.get(self.size.endpoints_at()..self.size.names_at())?;
        Some(Service {
            name: self.name(&record)?,
            magic_address: record.magic_address,
            flags: record.flags,
            records: endpoints.get(record.endpoints()?)?,
        })
    }

    /// A magic address with the number of its service.
    fn magic(&self, number: usize) -> Option<(Ipv4Addr, usize)> {
        let record: [u8; magic::OCTETS] =
            at(self.octets, self.size.magic_at() + number * magic::OCTETS)?;
        Some((Ipv4Addr::from(at::<4>(&record, 0)?), index(u32_at(&record, magic::SERVICE)?)))
    }
}

/// Compares a name of the table with one that was asked for.
fn compare(name: &[u8], asked: &[u8]) -> Ordering {
    name.iter().copied().cmp(asked.iter().map(u8::to_ascii_lowercase))
}

/// Binary search among records of which some may be damaged.
fn search(count: usize, order: impl Fn(usize) -> Option<Ordering>) -> Option<usize> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        match order(middle)? {
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
            Ordering::Equal => return Some(middle),
        }
    }
    None
}
