//! Guarded services, as `GET /api/guard` answers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A service of which the guard holds back a sharp drop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Guarded {
    /// Its name.
    pub service: String,
    /// When the hold began, RFC 3339.
    pub since: String,
    /// How many instances are in answers because of it.
    pub held: usize,
}

/// The answer of `GET /api/guard`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuardList {
    /// By name.
    pub guarded: Vec<Guarded>,
}
