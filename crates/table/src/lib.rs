//! The host table: what an agent publishes for the programs of its host, in one memory-mapped file.
//!
//! One agent writes the file. Many programs of any user read it, in their own processes and without asking the agent.
//! This crate is the layout, a reader over octets that may be anything, and a writer into a buffer of the right size.
//! The crate opens and maps no files, allocates no memory and needs no standard library, so that it can be used within
//! hooks of libc.
//!
//! What always holds: whatever the octets are, a reader returns values within them or an error, and never panics; the
//! writer never writes a table that its reader refuses.
//!
//! # Layout, version 1
//!
//! All numbers are little-endian. Sections follow each other in this order, without gaps:
//!
//! | section | at | octets |
//! |---|---|---|
//! | header | 0 | 64 |
//! | services, in the order of their names | 64 | 20 each |
//! | magic addresses, ascending | after the services | 8 each |
//! | endpoints, those of one service together and the best first | after the magic addresses | 24 each |
//! | names, ASCII in lower case, in the order of the services | after the endpoints | as long as they are |
//!
//! Header:
//!
//! | at | type | field |
//! |---|---|---|
//! | 0 | 8 octets | `DUNLINHT` |
//! | 8 | u32 | layout version, 1 |
//! | 12 | u32 | checksum (FNV-1a, 32 bits) of the octets from 32 to the end |
//! | 16 | u64 | heartbeat: when the agent last said that it lives, in milliseconds since 1970 |
//! | 24 | u32 | state: bit 0 is set once a newer file has taken this one's place |
//! | 28 | u32 | reserved, 0 |
//! | 32 | u64 | generation: odd while a writer is at work, even when the table is complete |
//! | 40 | u64 | index of the catalog that the table was made from |
//! | 48 | u32 | number of services |
//! | 52 | u32 | number of magic addresses |
//! | 56 | u32 | number of endpoints |
//! | 60 | u32 | octets of all names together |
//!
//! Heartbeat and state change in a table that is complete, so the checksum leaves them out.
//!
//! Service: name's offset within the names u32 · name's length u16 · flags u16 · number of the first endpoint u32 ·
//! number of endpoints u32 · magic address u32 as its octets stand in the address, 0 for none.
//!
//! Magic address: the address's four octets · number of the service u32.
//!
//! Endpoint: address 16 octets, IPv4 as `::ffff:a.b.c.d` · port u16 · weight u16 · flags u16 · reserved u16, 0.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod draft;
mod endpoint;
mod error;
mod header;
mod layout;
mod octets;
mod service;
mod size;
mod table;
mod writer;

pub use draft::{Draft, ServiceDraft};
pub use endpoint::{Endpoint, EndpointFlags};
pub use error::{TableError, WriteError};
pub use layout::{LAYOUT_VERSION, MAGIC, MAX_NAME_OCTETS, MAX_TABLE_OCTETS};
pub use service::{Endpoints, Service, ServiceFlags};
pub use size::Size;
pub use table::Table;
pub use writer::{set_heartbeat, set_superseded, write};
