//! Why a request was not carried out, as its client reads it: a status, what was wrong, what would be right.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dunlin_api as api;
use dunlin_core::host::RequestError;

use super::json;

/// An answer with a 4xx or 5xx status.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    error: String,
    hint: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), hint: String::new() }
    }

    pub(super) fn bad(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    pub(super) fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    /// A limit of the agent is reached at the moment.
    pub(super) fn busy(error: impl Into<String>) -> Self {
        let busy = Self::new(StatusCode::SERVICE_UNAVAILABLE, error);
        busy.hint("try again in a moment; /metrics shows what is at its limit")
    }

    /// The agent, or this client, has as many watches and long polls open as are allowed.
    pub(super) fn too_many_watches() -> Self {
        Self::busy("there are too many watches and long polls")
    }

    /// The same problem with what would be right.
    #[must_use]
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    /// The same problem, with the place within the body.
    #[must_use]
    pub(super) fn at(self, place: &str) -> Self {
        let what = self.error.strip_prefix("body: ").unwrap_or(&self.error);
        Self { error: format!("{place}: {what}"), ..self }
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        let text = error.to_string();
        match error {
            RequestError::Invalid { error, hint } => Self::bad(error).hint(hint),
            RequestError::NotFound(_) => Self::not_found(text),
            RequestError::Conflict(_) => Self::new(StatusCode::CONFLICT, text)
                .hint("who stated it first keeps it; GET /api/providers shows who that is"),
            RequestError::Forbidden(_) => Self::new(StatusCode::FORBIDDEN, text)
                .hint("nothing was changed; the scopes of tokens are in api.tokens_file"),
            RequestError::Storage(_) => Self::new(StatusCode::INSUFFICIENT_STORAGE, text)
                .hint("nothing was changed; look at the disk behind the data directory"),
            RequestError::Busy => Self::busy(text),
            RequestError::Stopping => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, text).hint("try again when it is back")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let retry = self.status == StatusCode::SERVICE_UNAVAILABLE;
        let body = api::Error { error: self.error, hint: self.hint };
        let mut response = json(self.status, &body);
        if retry {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
