//! Dunlin's own API: JSON over paths below `/api`, errors as `{"error", "hint"}`.
//!
//! Reads are answered from the published view and never ask the driver; writes are commands to the driver
//! and are answered when it acknowledged them. This is no place for logic: a handler reads its input, asks the view or
//! the driver, and presents the answer. `/api/openapi.json` is made from the very table that routes.

mod agent;
mod app;
mod batch;
mod dialect;
mod encoded;
mod events;
mod filter;
mod instances;
mod lookup;
mod metrics;
mod nodes;
mod present;
mod problem;
mod provider_pages;
mod providers;
mod read;
mod routes;
mod services;
mod watch;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dunlin_core::catalog::ServiceView;
use dunlin_shell::FairLimit;
use dunlin_shell::metrics::Observer;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use self::app::App;
use self::encoded::Encoded;
use self::filter::Filter;
use super::limits::Limits;
use super::server::{Bodies, Gate};
use crate::Handle;

/// The answer to a connection that is one too many, before any request was read from it.
pub(super) const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
connection: close\r\nretry-after: 1\r\ncontent-length: 109\r\n\r\n\
{\"error\":\"the agent has too many open connections\",\"hint\":\"close watches that nobody reads, then try again\"}\n";

/// All calls of this API behind their gates, with the answers to calls that do not exist.
pub(super) fn router(
    gate: &Gate,
    handle: Handle,
    observer: Arc<Observer>,
    limits: &Limits,
    closing: CancellationToken,
) -> Router {
    let (router, document) = routes::routes(gate);
    let app = Arc::new(App {
        handle,
        observer,
        encodings: Arc::default(),
        provider_pages: provider_pages::ProviderPages::default(),
        openapi: serde_json::to_vec(&document).expect("plain data always encodes").into(),
        limits: limits.clone(),
        closing,
        bodies: Bodies::new(limits),
        watches: FairLimit::with_client_limit(limits.watches, limits.watches_per_client),
        event_streams: FairLimit::new(limits.event_streams),
    });
    metrics::register(&app);
    router.with_state(app)
}

/// A service as JSON, encoded without any cache, for counting what that costs.
#[doc(hidden)]
#[must_use]
pub fn encode(service: &Arc<ServiceView>) -> Bytes {
    Encoded::new(service, &Filter::default()).json()
}

/// An answer with a JSON body.
fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    let bytes = serde_json::to_vec(body).expect("plain data always encodes");
    encoded_json(status, bytes.into())
}

/// An answer with a JSON body that is encoded already.
fn encoded_json(status: StatusCode, bytes: Bytes) -> Response {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, JSON)], bytes).into_response()
}
