//! Whether a caller may make a call.
//!
//! A call needs nothing, reading, registering or everything. Which services may be registered is judged where a
//! statement is carried out; here only callers are turned away that may register none at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::Request;
use dunlin_shell::Origin;
use dunlin_shell::metrics::{Collect, Metric, Observer, Sink, number};

use super::{CredentialSource, Reason, Refusal};
use crate::access::{Access, Credential, Grant};

/// What a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Right {
    /// Nothing: anybody may call it.
    Nothing,
    /// Looking up, watching, seeing the agent's state.
    Read,
    /// Stating instances of at least one service.
    Register,
    /// Everything.
    Admin,
}

impl Right {
    fn is_met_by(self, grant: &Grant) -> bool {
        match self {
            Self::Nothing => true,
            Self::Read => grant.may_read(),
            Self::Register => grant.may_register_some(),
            Self::Admin => grant.may_administer(),
        }
    }

    fn scope(self) -> &'static str {
        match self {
            Self::Nothing | Self::Read => "read",
            Self::Register => "register:SERVICE",
            Self::Admin => "admin",
        }
    }
}

/// Judges callers by the rules of the agent.
#[derive(Debug)]
pub(super) struct Rights {
    access: Access,
    denials: Arc<Denials>,
}

impl Rights {
    /// Rights by these rules. Refusals are counted in the metrics.
    pub(super) fn register(observer: &Observer, access: Access) -> Self {
        let denials = Arc::new(Denials::default());
        observer.collect(DenialMetrics(Arc::clone(&denials)));
        Self { access, denials }
    }

    /// Lets a call pass with the caller's [`Grant`] as an extension, or refuses it.
    pub(super) fn refusal(
        &self,
        right: Right,
        credentials: &CredentialSource,
        request: &mut Request,
    ) -> Option<Refusal> {
        let origin = *request.extensions().get::<Origin>().expect("a connection knows its origin");
        let credential = (credentials.read)(request);
        let is_shown = credential != Credential::None;
        let is_known = match self.access.grant(origin, credential) {
            Ok(grant) if right.is_met_by(&grant) => {
                request.extensions_mut().insert(grant);
                return None;
            }
            _ if right == Right::Nothing => return None,
            Ok(grant) => grant != Grant::nothing(),
            Err(_) => false,
        };
        if is_known {
            self.denials.forbidden.fetch_add(1, Ordering::Relaxed);
            return Some(forbidden(right, &self.access));
        }
        self.denials.unknown.fetch_add(1, Ordering::Relaxed);
        Some(unauthenticated(is_shown, credentials))
    }
}

fn unauthenticated(is_shown: bool, credentials: &CredentialSource) -> Refusal {
    let (reason, error) = if is_shown {
        (Reason::UnknownCredential, "the token is not known here")
    } else {
        (Reason::NoCredential, "a token is needed")
    };
    Refusal::new(reason, error, credentials.hint)
}

fn forbidden(right: Right, access: &Access) -> Refusal {
    let error = if access.takes_tokens() {
        format!("this needs a token with the scope {}", right.scope())
    } else {
        "this is for root and the agent's own user".to_owned()
    };
    let hint = "api.socket_users says what other users of this host may do; tokens have scopes in api.tokens_file";
    Refusal::new(Reason::NoRight, error, hint)
}

/// The number of calls that were turned away.
#[derive(Debug, Default)]
struct Denials {
    unknown: AtomicU64,
    forbidden: AtomicU64,
}

#[derive(Debug)]
struct DenialMetrics(Arc<Denials>);

impl Collect for DenialMetrics {
    fn collect(&self, sink: &mut Sink<'_>) {
        let denied = Metric::counter("http_denied", "Calls turned away for want of a right");
        let count = |counter: &AtomicU64| number(counter.load(Ordering::Relaxed));
        let by = [("unknown", &self.0.unknown), ("forbidden", &self.0.forbidden)];
        sink.values(&denied, by.map(|(why, counter)| ([("reason", why)], count(counter))));
    }
}
