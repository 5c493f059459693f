//! Dunlin's wire types: what travels over `/api` as JSON, and (feature `client`) a small client.
//!
//! These are plain data: strings and numbers as they are on the wire. The agent translates them to
//! and from its own model at its edges, so that neither has to follow the other's changes.
#![warn(missing_docs)]

#[cfg(feature = "client")]
pub mod client;
mod event;
mod guard;
mod node;
mod registration;
mod service;
mod status;
mod unique;

pub use event::Event;
pub use guard::{GuardList, Guarded};
pub use node::{Node, NodeDrainRequest, NodeList};
pub use registration::{
    Check, CheckKind, CheckPush, DrainRequest, MaintenanceRequest, Provider, ProviderList,
    ProviderSet, Registration,
};
pub use service::{
    CheckState, Instance, LocalInstance, LocalInstanceList, Service, ServiceList, ServiceSet,
    ServiceSummary, Standing,
};
pub use status::{AgentStatus, Error, Probe};
