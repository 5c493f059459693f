//! The header: what it says of the sections behind it.

use crate::error::TableError;
use crate::layout::header::{
    COVERED, ENDPOINTS, GENERATION, MAGIC_ADDRESSES, NAME_OCTETS, OCTETS, SERVICES, VERSION,
};
use crate::layout::{LAYOUT_VERSION, MAGIC};
use crate::octets::{at, checksum, index, u32_at, u64_at};
use crate::size::Size;

/// Reads the sizes of the sections, and checks that the octets are exactly as long as they say.
pub(crate) fn read(octets: &[u8]) -> Result<Size, TableError> {
    if at(octets, 0) != Some(MAGIC) {
        return Err(TableError::NotATable);
    }
    let short = TableError::Length { expected: OCTETS as u64, found: octets.len() };
    let version = u32_at(octets, VERSION).ok_or(short)?;
    if version != LAYOUT_VERSION {
        return Err(TableError::Version(version));
    }
    let number = |offset| u32_at(octets, offset).map(index).ok_or(short);
    let size = Size {
        services: number(SERVICES)?,
        magic_addresses: number(MAGIC_ADDRESSES)?,
        endpoints: number(ENDPOINTS)?,
        name_octets: number(NAME_OCTETS)?,
    };
    if u64_at(octets, GENERATION).ok_or(short)? % 2 == 1 {
        return Err(TableError::Unfinished);
    }
    let expected = size.exact_octets();
    if usize::try_from(expected) != Ok(octets.len()) {
        return Err(TableError::Length { expected, found: octets.len() });
    }
    Ok(size)
}

/// The checksum of a whole table; `None` if it is shorter than a header.
pub(crate) fn sum(octets: &[u8]) -> Option<u32> {
    octets.get(COVERED..).map(checksum)
}
