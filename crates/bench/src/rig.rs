//! The rig: agents, clients, processors and what is used of them, statistics and tables.
//!
//! Nothing in here judges a figure; the bench or the storm that took it does.

pub mod agent;
pub mod changer;
pub mod client;
pub mod crowd;
pub mod datagrams;
pub mod dev_agent;
pub mod events;
pub mod finding;
pub mod fleet;
pub mod floor;
pub mod pace;
pub mod process;
pub mod processors;
pub mod program;
pub mod questions;
pub mod random;
pub mod release;
pub mod repeating;
pub mod seed;
pub mod statement;
pub mod stats;
pub mod table;
pub mod usage;
pub mod wait;
