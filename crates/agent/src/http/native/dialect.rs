//! Dunlin's own form of refusals: JSON, `{"error", "hint"}`.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use crate::http::server::{Dialect, Reason, Refusal};

/// Dunlin's own dialect.
#[derive(Debug, Clone, Copy)]
pub(super) struct Native;

impl Dialect for Native {
    fn refuse(&self, refusal: &Refusal) -> Response {
        let mut response = Problem::from(refusal.clone()).into_response();
        if let Some(challenge) = challenge(refusal.reason) {
            let challenge = HeaderValue::from_static(challenge);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// The challenge of RFC 6750 §3.
fn challenge(reason: Reason) -> Option<&'static str> {
    if reason == Reason::NoCredential {
        return Some("Bearer realm=\"dunlin\"");
    }
    (reason == Reason::UnknownCredential)
        .then_some("Bearer realm=\"dunlin\", error=\"invalid_token\"")
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let hint = if refusal.reason == Reason::NoSuchCall {
            "GET /api/openapi.json lists all calls; GET / tells where to begin"
        } else {
            refusal.hint
        };
        Self::new(refusal.reason.status(), refusal.error).hint(hint)
    }
}
