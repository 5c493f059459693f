//! The sources of the instances of this host: provider files, and registrations as the API has them.

pub mod files;
pub mod translate;
