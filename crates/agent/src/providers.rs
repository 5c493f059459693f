//! Where what this host says comes from: provider files, and registrations as the wire has them.

pub mod files;
pub mod translate;
