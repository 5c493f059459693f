//! Agents on hosts of their own: how a cluster behaves when hosts fail, networks break and unauthenticated peers connect.
//!
//! A [`lab`](lab::Lab) is five network namespaces, joined in a sixth, so that no packet leaves the machine. It
//! needs root, and fails where it cannot be built. The time that each step took is printed.

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
