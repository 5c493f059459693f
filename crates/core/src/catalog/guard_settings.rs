//! When the guards of services step in: for all services, and otherwise for some.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::guard::GuardRules;
use crate::model::ServiceName;

/// When the guard of a service steps in.
#[derive(Debug, Clone, PartialEq)]
pub struct GuardSettings {
    /// See [`GuardRules::max_drop`].
    pub max_drop: f64,
    /// See [`GuardRules::min_instances`].
    pub min_instances: usize,
    /// See [`GuardRules::window`].
    pub window: Duration,
    /// See [`GuardRules::hold`].
    pub hold: Duration,
    /// See [`GuardRules::panic`].
    pub panic: bool,
    /// Other settings for some services.
    pub services: BTreeMap<ServiceName, GuardOverride>,
}

/// Other settings for one service. What is absent stays as it is for all services.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct GuardOverride {
    /// See [`GuardRules::max_drop`]; 1 switches the guard off.
    pub max_drop: Option<f64>,
    /// See [`GuardRules::panic`].
    pub panic: Option<bool>,
}

impl Default for GuardSettings {
    fn default() -> Self {
        let GuardRules { max_drop, min_instances, window, hold, panic } = GuardRules::default();
        Self { max_drop, min_instances, window, hold, panic, services: BTreeMap::new() }
    }
}

impl GuardSettings {
    /// The rules that hold for one service.
    pub(super) fn of(&self, service: &ServiceName) -> GuardRules {
        let over = self.services.get(service).copied().unwrap_or_default();
        GuardRules {
            max_drop: over.max_drop.unwrap_or(self.max_drop),
            min_instances: self.min_instances,
            window: self.window,
            hold: self.hold,
            panic: over.panic.unwrap_or(self.panic),
        }
    }
}
