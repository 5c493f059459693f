//! What one caller may do.

use std::sync::Arc;

use dunlin_core::host::{Permit, Permitted};
use dunlin_core::model::ServiceName;

use super::scope::{Prefix, Scope};

/// What one caller may do. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    reads: bool,
    administers: bool,
    registers: Arc<[Prefix]>,
}

impl Grant {
    /// Nothing is allowed: the grant of an unknown caller.
    #[must_use]
    pub fn nothing() -> Self {
        Self { reads: false, administers: false, registers: Arc::default() }
    }

    /// Lookups, watches and the agent's state are allowed.
    #[must_use]
    pub fn reading() -> Self {
        Self { reads: true, ..Self::nothing() }
    }

    /// Everything is allowed.
    #[must_use]
    pub fn everything() -> Self {
        Self { reads: true, administers: true, registers: Arc::default() }
    }

    /// What these scopes together allow.
    #[must_use]
    pub fn of(scopes: &[Scope]) -> Self {
        let prefix = |scope: &Scope| match scope {
            Scope::Register(prefix) => Some(prefix.clone()),
            Scope::Read | Scope::Admin => None,
        };
        Self {
            reads: !scopes.is_empty(),
            administers: scopes.contains(&Scope::Admin),
            registers: scopes.iter().filter_map(prefix).collect(),
        }
    }

    /// Everything that one of the two grants allows. At most one of them names services.
    #[must_use]
    pub(super) fn or(self, other: Self) -> Self {
        let registers = if self.registers.is_empty() { other.registers } else { self.registers };
        let reads = self.reads || other.reads;
        Self { reads, administers: self.administers || other.administers, registers }
    }

    /// Whether lookups, watches and the agent's state are allowed.
    #[must_use]
    pub fn may_read(&self) -> bool {
        self.reads
    }

    /// Whether everything is allowed.
    #[must_use]
    pub fn may_administer(&self) -> bool {
        self.administers
    }

    /// Whether instances of some service may be stated.
    #[must_use]
    pub fn may_register_some(&self) -> bool {
        self.administers || !self.registers.is_empty()
    }

    /// Whether instances of this service may be stated.
    #[must_use]
    pub fn may_register(&self, service: &ServiceName) -> bool {
        self.administers || self.registers.iter().any(|prefix| prefix.includes(service))
    }
}

impl Permit for Grant {
    fn may_register(&self, service: &ServiceName) -> bool {
        Self::may_register(self, service)
    }
}

impl Grant {
    /// The grant as the engine judges requests by it.
    #[must_use]
    pub fn permit(&self) -> Permitted {
        if self.administers { None } else { Some(Arc::new(self.clone())) }
    }
}
