//! Numbers within octets, without ever going beyond them.

/// The `N` octets at an offset; `None` when they lie beyond the end.
pub(crate) fn at<const N: usize>(octets: &[u8], offset: usize) -> Option<[u8; N]> {
    octets.get(offset..)?.first_chunk().copied()
}

pub(crate) fn u16_at(octets: &[u8], offset: usize) -> Option<u16> {
    at(octets, offset).map(u16::from_le_bytes)
}

pub(crate) fn u32_at(octets: &[u8], offset: usize) -> Option<u32> {
    at(octets, offset).map(u32::from_le_bytes)
}

pub(crate) fn u64_at(octets: &[u8], offset: usize) -> Option<u64> {
    at(octets, offset).map(u64::from_le_bytes)
}

/// A count or an offset of the file as an index. Exact wherever a table of more than 64 KiB can be mapped.
pub(crate) fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// FNV-1a, 32 bits (draft-eastlake-fnv). A changed octet always changes the sum, since each step can be undone.
pub(crate) fn checksum(octets: &[u8]) -> u32 {
    let step = |sum: u32, octet: &u8| (sum ^ u32::from(*octet)).wrapping_mul(0x0100_0193);
    octets.iter().fold(0x811c_9dc5, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_published_test_vectors() {
        assert_eq!(checksum(b""), 0x811c_9dc5);
        assert_eq!(checksum(b"a"), 0xe40c_292c);
        assert_eq!(checksum(b"foobar"), 0xbf9c_f968);
    }

    #[test]
    fn what_lies_beyond_the_end_is_not_read() {
        assert_eq!(u32_at(&[1, 0, 0, 0, 9], 0), Some(1));
        assert_eq!(u32_at(&[1, 0, 0, 0, 9], 2), None);
        assert_eq!(u16_at(&[], usize::MAX), None);
    }
}
