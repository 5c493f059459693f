//! Agents on hosts of their own: what a cluster does when hosts die, networks break and strangers knock.
//!
//! A [`lab`](lab::Lab) is five network namespaces, joined in a sixth, so that no packet leaves the machine. It
//! needs root, and fails where it cannot be built. What a step took is printed.

mod bad_peers;
mod clocks;
mod disks;
mod firewall;
mod host;
mod lab;
mod members;
mod network;
mod splits;
mod trust;
mod weather;
