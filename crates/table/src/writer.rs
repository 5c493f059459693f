//! The writer: a table into a buffer of the right size.

use core::net::Ipv4Addr;

use crate::draft::{Draft, ServiceDraft};
use crate::endpoint::Endpoint;
use crate::error::WriteError;
use crate::header::sum;
use crate::layout::{
    LAYOUT_VERSION, MAGIC, MAX_NAME_OCTETS, MAX_TABLE_OCTETS, endpoint, header, magic, service,
};
use crate::size::Size;

/// Writes a table. `size` is [`Size::of`] the same services, and the buffer as long as it says.
///
/// # Errors
/// When the services are not in the order of their names, something about them is not right, or they are others than
/// those of `size`. The buffer then holds no table: its beginning is zero.
pub fn write<'n, E>(
    buffer: &mut [u8],
    size: Size,
    draft: Draft,
    services: impl IntoIterator<Item = ServiceDraft<'n, E>>,
) -> Result<(), WriteError>
where
    E: IntoIterator<Item = Endpoint>,
{
    if size.exact_octets() > MAX_TABLE_OCTETS as u64 {
        return Err(WriteError::TooLarge);
    }
    let (expected, found) = (size.octets(), buffer.len());
    if expected != found {
        return Err(WriteError::Buffer { expected, found });
    }
    buffer[..MAGIC.len()].fill(0);
    let (head, sections) = buffer.split_at_mut(header::OCTETS);
    Sections::new(sections, size).fill(services)?;
    head.fill(0);
    let mut put = |at: usize, octets: &[u8]| head[at..at + octets.len()].copy_from_slice(octets);
    put(header::VERSION, &LAYOUT_VERSION.to_le_bytes());
    put(header::HEARTBEAT, &draft.heartbeat.to_le_bytes());
    put(header::GENERATION, &(draft.generation & !1).to_le_bytes());
    put(header::CATALOG_INDEX, &draft.catalog_index.to_le_bytes());
    put(header::SERVICES, &number(size.services).to_le_bytes());
    put(header::MAGIC_ADDRESSES, &number(size.magic_addresses).to_le_bytes());
    put(header::ENDPOINTS, &number(size.endpoints).to_le_bytes());
    put(header::NAME_OCTETS, &number(size.name_octets).to_le_bytes());
    let sum = sum(buffer).expect("the buffer is at least as long as a header");
    buffer[header::CHECKSUM..header::CHECKSUM + 4].copy_from_slice(&sum.to_le_bytes());
    buffer[..MAGIC.len()].copy_from_slice(&MAGIC);
    Ok(())
}

/// Says in a table that is in use that its agent lives, at this time in milliseconds since 1970.
pub fn set_heartbeat(table: &mut [u8], now: u64) {
    if let Some(field) = table.get_mut(header::HEARTBEAT..header::HEARTBEAT + 8) {
        field.copy_from_slice(&now.to_le_bytes());
    }
}

/// Says in a table that is in use that a newer file has taken its place.
pub fn set_superseded(table: &mut [u8]) {
    if let Some(field) = table.get_mut(header::STATE..header::STATE + 4) {
        field.copy_from_slice(&header::SUPERSEDED.to_le_bytes());
    }
}

/// A number that is less than [`MAX_TABLE_OCTETS`].
fn number(number: usize) -> u32 {
    u32::try_from(number).expect("a table has fewer octets than 2^32")
}

/// The sections behind the header, and how far each is filled.
struct Sections<'b> {
    services: &'b mut [u8],
    magic: &'b mut [u8],
    endpoints: &'b mut [u8],
    names: &'b mut [u8],
    filled: Size,
}

impl<'b> Sections<'b> {
    fn new(octets: &'b mut [u8], size: Size) -> Self {
        let (services, rest) = octets.split_at_mut(size.services * service::OCTETS);
        let (magic, rest) = rest.split_at_mut(size.magic_addresses * magic::OCTETS);
        let (endpoints, names) = rest.split_at_mut(size.endpoints * endpoint::OCTETS);
        Self { services, magic, endpoints, names, filled: Size::default() }
    }

    fn fill<'n, E>(
        &mut self,
        services: impl IntoIterator<Item = ServiceDraft<'n, E>>,
    ) -> Result<(), WriteError>
    where
        E: IntoIterator<Item = Endpoint>,
    {
        let mut last = None;
        for service in services {
            check_name(service.name)?;
            if last.is_some_and(|last| last >= service.name) {
                return Err(WriteError::Order);
            }
            last = Some(service.name);
            self.add(service)?;
        }
        let Size { services, magic_addresses, endpoints, name_octets } = self.filled;
        let is_full = services * service::OCTETS == self.services.len()
            && magic_addresses * magic::OCTETS == self.magic.len()
            && endpoints * endpoint::OCTETS == self.endpoints.len()
            && name_octets == self.names.len();
        if !is_full {
            return Err(WriteError::Changed);
        }
        self.sort_magic()
    }

    fn add<'n, E>(&mut self, draft: ServiceDraft<'n, E>) -> Result<(), WriteError>
    where
        E: IntoIterator<Item = Endpoint>,
    {
        let before = self.filled;
        for endpoint in draft.endpoints {
            put(self.endpoints, self.filled.endpoints, &endpoint.record())?;
            self.filled.endpoints += 1;
        }
        let name = draft.name.as_bytes();
        let names = self.names.get_mut(before.name_octets..before.name_octets + name.len());
        names.ok_or(WriteError::Changed)?.copy_from_slice(name);
        self.filled.name_octets += name.len();
        let address = draft.magic_address.unwrap_or(Ipv4Addr::UNSPECIFIED).octets();
        if draft.magic_address.is_some() {
            let [a, b, c, d] = address;
            let [e, f, g, h] = number(before.services).to_le_bytes();
            put(self.magic, before.magic_addresses, &[a, b, c, d, e, f, g, h])?;
            self.filled.magic_addresses += 1;
        }
        let mut record = [0; service::OCTETS];
        let mut field =
            |at: usize, octets: &[u8]| record[at..at + octets.len()].copy_from_slice(octets);
        let name_len = u16::try_from(name.len()).expect("names are shorter than 2^16");
        field(service::NAME_AT, &number(before.name_octets).to_le_bytes());
        field(service::NAME_LEN, &name_len.to_le_bytes());
        field(service::FLAGS, &draft.flags.0.to_le_bytes());
        field(service::FIRST_ENDPOINT, &number(before.endpoints).to_le_bytes());
        let count = self.filled.endpoints - before.endpoints;
        field(service::ENDPOINTS, &number(count).to_le_bytes());
        field(service::MAGIC_ADDRESS, &address);
        put(self.services, before.services, &record)?;
        self.filled.services += 1;
        Ok(())
    }

    /// Sorts the magic addresses in their place, and refuses a table in which one occurs twice or is none.
    fn sort_magic(&mut self) -> Result<(), WriteError> {
        let (records, _) = self.magic.as_chunks_mut::<{ magic::OCTETS }>();
        // By the octets of the address, which come first.
        records.sort_unstable();
        let address = |record: &[u8; magic::OCTETS]| [record[0], record[1], record[2], record[3]];
        let is_twice = records.windows(2).any(|pair| address(&pair[0]) == address(&pair[1]));
        let is_none = records.first().is_some_and(|record| address(record) == [0; 4]);
        if is_twice || is_none { Err(WriteError::MagicAddress) } else { Ok(()) }
    }
}

fn check_name(name: &str) -> Result<(), WriteError> {
    let is_lower = name.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase());
    let has_length = (1..=MAX_NAME_OCTETS).contains(&name.len());
    if is_lower && has_length { Ok(()) } else { Err(WriteError::Name) }
}

/// Writes the record of this number into a section.
fn put<const N: usize>(
    section: &mut [u8],
    number: usize,
    record: &[u8; N],
) -> Result<(), WriteError> {
    let (records, _) = section.as_chunks_mut::<N>();
    *records.get_mut(number).ok_or(WriteError::Changed)? = *record;
    Ok(())
}
