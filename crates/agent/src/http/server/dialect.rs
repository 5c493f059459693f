//! How the machinery refuses a request, before anybody has put it into words for the client.

use std::fmt;

use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;

/// How a family of calls speaks to its clients.
pub(in crate::http) trait Dialect: fmt::Debug + Send + Sync {
    /// The answer to a request that the machinery refuses.
    fn refuse(&self, refusal: &Refusal) -> Response;
}

/// That a request is not carried out. Nothing was changed by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) struct Refusal {
    /// The kind of refusal, for dialects with codes of their own.
    pub(in crate::http) reason: Reason,
    /// What was wrong, in a sentence without a full stop.
    pub(in crate::http) error: String,
    /// What would be right; may be empty.
    pub(in crate::http) hint: &'static str,
}

/// Why the machinery refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Reason {
    /// The headers are larger than the limit.
    HeadersTooLarge,
    /// `Host` names a host that is not this one, see [`OwnNames`](super::OwnNames).
    ForeignHost,
    /// The call needs a right, and the caller showed nothing.
    NoCredential,
    /// The caller showed something that is not known.
    UnknownCredential,
    /// The caller is known and lacks the right.
    NoRight,
    /// There is no call of this path.
    NoSuchCall,
    /// The path has calls, but none with this method.
    NoSuchMethod,
    /// The body is larger than the call's limit.
    BodyTooLarge,
    /// The body was not complete in time.
    BodyTimeout,
    /// The body ended early, or its framing is wrong.
    BodyUnreadable,
    /// A limit of the agent is reached; a later try may succeed.
    Busy,
}

impl Reason {
    /// The status of HTTP for it (RFC 9110 §15, RFC 6585 §5).
    pub(in crate::http) fn status(self) -> StatusCode {
        match self {
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::ForeignHost => StatusCode::MISDIRECTED_REQUEST,
            Self::NoCredential | Self::UnknownCredential => StatusCode::UNAUTHORIZED,
            Self::NoRight => StatusCode::FORBIDDEN,
            Self::NoSuchCall => StatusCode::NOT_FOUND,
            Self::NoSuchMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyUnreadable => StatusCode::BAD_REQUEST,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl Refusal {
    pub(super) fn new(reason: Reason, error: impl Into<String>, hint: &'static str) -> Self {
        Self { reason, error: error.into(), hint }
    }

    pub(super) fn no_such_call(method: &Method, uri: &Uri) -> Self {
        let error = format!("there is no call {method} {}", shown(uri));
        Self::new(Reason::NoSuchCall, error, "")
    }

    pub(super) fn no_such_method(method: &Method, uri: &Uri) -> Self {
        let error = format!("{} does not take {method}", shown(uri));
        Self::new(Reason::NoSuchMethod, error, "the Allow header lists what it takes")
    }
}

/// The beginning of a path, for messages.
fn shown(uri: &Uri) -> String {
    uri.path().chars().take(256).collect()
}
