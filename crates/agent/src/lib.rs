//! The shell around `dunlin-core`: every socket, file, timer and task of the agent.

pub mod dns;
