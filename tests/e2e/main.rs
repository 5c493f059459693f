//! The real binary with real clients: dig, kdig, unbound, HAProxy, curl, killed and started again.
//!
//! Every agent has its own directory and ports on loopback. The tests of a tool that is not installed fail if `CI` is set;
//! otherwise they print that they did not run (`cargo xtask test` installs all tools).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]
#![allow(clippy::print_stderr, reason = "tests that cannot run say so")]

mod access;
mod agent;
mod bad_input;
mod clients;
mod cluster;
mod crash;
mod dev_nodes;
mod limits;
mod opinions;
mod reload;
mod run;
mod supervised;
mod tour;
mod wait;
