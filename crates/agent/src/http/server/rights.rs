//! Whether a caller may make a call, and as whom the driver is asked.
//!
//! A call needs nothing, reading, registering or everything. Which services may be registered the driver
//! judges ([`Command::Within`]); here only callers are turned away who may register none at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::App;
use super::problem::Problem;
use crate::access::{Access, Caller, Grant, Shown};
use crate::handle::Reply;
use crate::observe::{Collect, Metric, Sink, number};
use crate::shares::Client;
use crate::{Command, RequestError};

/// At the other end of a connection; part of each of its requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) Caller);

impl Peer {
    /// Whom places are counted for.
    pub(super) fn client(self) -> Client {
        match self.0 {
            Caller::Remote(address) => address.ip().into(),
            Caller::Local(user) => Client::User(user),
        }
    }
}

/// What a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    Read,
    Register,
    Admin,
}

impl Need {
    fn of(method: &Method, call: Option<&MatchedPath>) -> Self {
        let call = call.map_or("", MatchedPath::as_str);
        if matches!(call, "/healthz" | "/readyz") {
            return Self::Nothing;
        }
        let is_statement =
            call.starts_with("/api/instances/") || call.starts_with("/api/providers/");
        match *method {
            Method::GET | Method::HEAD => Self::Read,
            _ if is_statement => Self::Register,
            _ => Self::Admin,
        }
    }

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

/// Calls that were turned away.
#[derive(Debug, Default)]
pub(super) struct Denials {
    unknown: AtomicU64,
    forbidden: AtomicU64,
}

#[derive(Debug)]
pub(super) struct ShownDenials(pub(super) Arc<Denials>);

impl Collect for ShownDenials {
    fn collect(&self, sink: &mut Sink<'_>) {
        let denied = Metric::counter("http_denied", "Calls turned away for want of a right");
        let count = |counter: &AtomicU64| number(counter.load(Ordering::Relaxed));
        let by = [("unknown", &self.0.unknown), ("forbidden", &self.0.forbidden)];
        sink.values(&denied, by.map(|(why, counter)| ([("reason", why)], count(counter))));
    }
}

/// Lets a call pass with the caller's [`Grant`], or turns it away.
pub(super) fn refusal(app: &App, request: &mut Request) -> Option<Response> {
    let Peer(caller) = *request.extensions().get().expect("a connection knows its other end");
    let call = request.extensions().get::<MatchedPath>();
    let need = Need::of(request.method(), call);
    let is_known = match app.access.grant(caller, shown(request.headers())) {
        Ok(grant) if need.is_met_by(&grant) => {
            request.extensions_mut().insert(grant);
            return None;
        }
        _ if need == Need::Nothing => return None,
        Ok(grant) => grant != Grant::nothing(),
        Err(_) => false,
    };
    if is_known {
        app.denials.forbidden.fetch_add(1, Ordering::Relaxed);
        return Some(forbidden(need, &app.access));
    }
    app.denials.unknown.fetch_add(1, Ordering::Relaxed);
    Some(unknown(request.headers().contains_key(header::AUTHORIZATION)))
}

fn shown(headers: &HeaderMap) -> Shown<'_> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Shown::Nothing };
    let pair = value.to_str().ok().and_then(|text| text.split_once(' '));
    match pair {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            Shown::Token(token.trim())
        }
        _ => Shown::Other,
    }
}

/// 401 with the challenge of RFC 6750 §3.
fn unknown(was_shown: bool) -> Response {
    let (error, challenge) = if was_shown {
        ("the token is not known here", "Bearer realm=\"dunlin\", error=\"invalid_token\"")
    } else {
        ("a token is needed", "Bearer realm=\"dunlin\"")
    };
    let hint =
        "send Authorization: Bearer TOKEN; `dunlin token create` makes one for api.tokens_file";
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, error).hint(hint).into_response();
    let challenge = HeaderValue::from_static(challenge);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}

fn forbidden(need: Need, access: &Access) -> Response {
    let scope = need.scope();
    let error = if access.takes_tokens() {
        format!("this needs a token with the scope {scope}")
    } else {
        "this is for root and the agent's own user".to_owned()
    };
    let hint = "api.socket_users says what other users of this host may do; tokens have scopes in api.tokens_file";
    Problem::new(StatusCode::FORBIDDEN, error).hint(hint).into_response()
}

impl App {
    /// Asks the driver on a caller's behalf.
    pub(super) async fn ask_as<T>(
        &self,
        grant: &Grant,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, RequestError> {
        if grant.may_administer() {
            return self.handle.ask(command).await;
        }
        let within = |reply| Command::Within(grant.clone(), Box::new(command(reply)));
        self.handle.ask(within).await
    }
}
