//! The words of Dunlin as types: names, nodes, instances, checks, health.
//!
//! Constructors parse: a [`ServiceName`] or an [`InstanceId`] that exists is valid, so nothing further
//! down checks again. Limits are in [`limits`].

mod check;
mod health;
mod id;
mod instance;
pub mod limits;
mod meta;
mod name;
mod node;
mod provider;
mod text;
mod time;

pub use check::{
    CheckKind, CheckRow, CheckSpec, CheckSpecError, CheckStatus, HttpCheck, StatusRange, TlsCheck,
};
pub use health::{Health, effective_health};
pub use id::{CheckId, IdError, InstanceId, NodeId};
pub use instance::{Instance, InstanceError, InstanceFields, Mode, Profile, Registration};
pub use meta::Meta;
pub use name::{Label, NameError, NodeName, RESERVED_LABELS, ServiceName, ZoneName};
pub use node::{NodePhase, NodeRow};
pub use provider::{ProviderId, ProviderKind, Refusal};
pub use time::Timestamp;
