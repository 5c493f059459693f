//! Why a table cannot be read or written.

use core::fmt;

use crate::layout::{LAYOUT_VERSION, MAX_NAME_OCTETS, MAX_TABLE_OCTETS};

/// Why octets are not a table that can be read. The writer of the file is at fault, or the file is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableError {
    /// The octets do not begin as a table does.
    NotATable,
    /// The layout is of a version that this reader does not know.
    Version(u32),
    /// A writer is at work; a later try may succeed.
    Unfinished,
    /// The octets end before the table does, or after it.
    Length {
        /// The octets that the header announces.
        expected: u64,
        /// The octets that there are.
        found: usize,
    },
    /// The checksum is not that of the octets.
    Checksum,
    /// A record points outside the section that it should point into, or an order is not kept.
    Corrupt(&'static str),
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotATable => f.write_str("this is not a host table"),
            Self::Version(version) => {
                write!(
                    f,
                    "layout version {version} is not known; this reader knows {LAYOUT_VERSION}"
                )
            }
            Self::Unfinished => f.write_str("the table is being written"),
            Self::Length { expected, found } => {
                write!(f, "the table should have {expected} octets and has {found}")
            }
            Self::Checksum => f.write_str("the checksum is wrong"),
            Self::Corrupt(what) => write!(f, "{what}"),
        }
    }
}

impl core::error::Error for TableError {}

/// Why a table cannot be written. The buffer may have been written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteError {
    /// The table would have more octets than [`MAX_TABLE_OCTETS`].
    TooLarge,
    /// The buffer has another size than the table.
    Buffer {
        /// The octets of the table.
        expected: usize,
        /// The octets of the buffer.
        found: usize,
    },
    /// A name is empty, longer than [`MAX_NAME_OCTETS`], not ASCII, or not in lower case.
    Name,
    /// The names are not in ascending order, or one occurs twice.
    Order,
    /// Two services have the same magic address.
    MagicAddress,
    /// The services gave something else than when the size was computed.
    Changed,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "the table would exceed {MAX_TABLE_OCTETS} octets"),
            Self::Buffer { expected, found } => {
                write!(f, "the table has {expected} octets and the buffer {found}")
            }
            Self::Name => {
                write!(f, "a name is not 1 to {MAX_NAME_OCTETS} octets of ASCII in lower case")
            }
            Self::Order => f.write_str("the names are not in ascending order"),
            Self::MagicAddress => f.write_str("two services have the same magic address"),
            Self::Changed => f.write_str("the services changed while they were written"),
        }
    }
}

impl core::error::Error for WriteError {}
