//! What this host says: providers, their instances, and how they become rows.

pub mod translate;
