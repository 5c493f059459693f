//! What the benches (`cargo xtask bench`) and the storm (`cargo xtask storm`) have in common.
//!
//! Both run the release binary in processes of its own, as users do. They depend on no other crate of the workspace, so
//! they send and read what any other client of Dunlin could send and read.

#![allow(clippy::print_stdout, reason = "a person reads what is going on in the terminal")]

pub mod rig;
