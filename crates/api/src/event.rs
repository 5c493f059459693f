//! What happened on this agent, as `GET /api/events` tells.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Counts up; pass the last one seen as `Last-Event-ID` to resume.
    pub id: u64,
    /// When, RFC 3339.
    pub time: String,
    /// What, in the past tense: `InstanceRegistered`, `HealthChanged`, `ProviderFailed` …
    pub kind: String,
    /// The node it happened on.
    pub node: String,
    /// The service concerned, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The instance concerned, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The provider concerned, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Why, in a sentence.
    pub reason: String,
}
