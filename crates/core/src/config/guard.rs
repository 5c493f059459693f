//! `[guard]`: what is held back when many instances vanish at once.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{require_share, require_time, require_within};
use super::{ConfigError, duration, text};
use crate::model::ServiceName;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// The settings of `[guard]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GuardConfig {
    /// The share of a service's healthy instances that may vanish within the window and be believed at
    /// once, 0 to 1. 1 switches the guard off.
    #[schemars(range(min = 0, max = 1))]
    pub max_drop: f64,
    /// The time over which a drop is measured, 1 second to 1 hour.
    #[serde(with = "duration")]
    #[schemars(with = "text::DurationText")]
    pub window: Duration,
    /// How long vanished instances that still accept connections are served at most, 1 second to 1 day.
    #[serde(with = "duration")]
    #[schemars(with = "text::DurationText")]
    pub hold: Duration,
    /// A drop of fewer instances than this is always believed, at least 1.
    #[schemars(range(min = 1))]
    pub min_instances: u32,
    /// Whether a service without any healthy instance is answered with all that are still reachable.
    pub panic: bool,
    /// Other values for single services: `[guard.service."http.api.prod.shop"]`.
    #[schemars(with = "BTreeMap<String, GuardOverride>")]
    pub service: BTreeMap<ServiceName, GuardOverride>,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            max_drop: 0.5,
            window: Duration::from_secs(30),
            hold: Duration::from_secs(600),
            min_instances: 3,
            panic: true,
            service: BTreeMap::new(),
        }
    }
}

/// Other values for one service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GuardOverride {
    /// Instead of `guard.max_drop` for this service.
    #[schemars(range(min = 0, max = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_drop: Option<f64>,
    /// Instead of `guard.panic` for this service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panic: Option<bool>,
}

impl GuardConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        require_share("guard.max_drop", self.max_drop)?;
        require_time("guard.window", self.window, SECOND, HOUR)?;
        require_time("guard.hold", self.hold, SECOND, DAY)?;
        require_within("guard.min_instances", self.min_instances, 1, 10_000_000)?;
        for (service, own) in &self.service {
            if let Some(max_drop) = own.max_drop {
                require_share(&format!("guard.service.{service}.max_drop"), max_drop)?;
            }
        }
        Ok(())
    }
}
