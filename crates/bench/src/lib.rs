//! What the benches (`cargo xtask bench`) and the storm (`cargo xtask storm`) have in common.
//!
//! Both run the release binary as users do, in processes of its own, and know no other crate of the workspace: what
//! they send and read is what any client of Dunlin would.

#![allow(clippy::print_stdout, reason = "a person reads what is going on in the terminal")]

pub mod rig;
