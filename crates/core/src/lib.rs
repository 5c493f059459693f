//! Dunlin's logic, without input or output.
//!
//! Nothing in this crate opens a socket or a file, reads a clock, starts a thread or draws a random
//! number: time and randomness are arguments. The agent's driver and the simulator feed the same code.
//!
//! State machines share one shape: `handle_*(now, input)`, then drain `poll_output()`;
//! `next_deadline()` says when to come back.
//!
//! Start with [`model`] for the words, then follow the way of the data: [`replica`] (replicated rows)
//! → [`catalog`] (indexed views) → [`dns`] (answers).
#![warn(missing_docs)]

pub mod catalog;
pub mod config;
pub mod dns;
pub mod fields;
pub mod gossip;
pub mod guard;
pub mod health;
pub mod host;
pub mod model;
pub mod random;
pub mod replica;
