//! The terms of Dunlin as types: names, nodes, instances, checks, health.
//!
//! Constructors parse: every [`ServiceName`] and [`InstanceId`] is valid, so no other code checks it again. The limits
//! are in [`limits`].

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
pub use provider::{ProviderId, ProviderKind, ProviderRefusal};
pub(crate) use text::{debug_as_quoted_text, text_conversions};
pub use time::Timestamp;
