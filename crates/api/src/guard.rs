//! What the guard holds, as `GET /api/guard` answers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A service of which the guard holds instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Guarded {
    /// The service.
    pub service: String,
    /// When the hold began, RFC 3339.
    pub since: String,
    /// How many of its instances are held.
    pub held: usize,
}

/// The answer of `GET /api/guard`. `DELETE /api/guard/{service}` releases one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuardList {
    /// By service.
    pub guarded: Vec<Guarded>,
}
