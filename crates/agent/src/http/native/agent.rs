//! The agent itself: where to begin, its state, its metrics, its API described.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use dunlin_api as api;
use dunlin_shell::metrics::CONTENT_TYPE;

use super::problem::Problem;
use super::{App, encoded_json, json, read};

const INDEX: &str = "\
Dunlin agent.

GET /api/services              all services
GET /api/services/{name}       one service with its healthy instances
GET /api/services/{name}/watch the same as a stream of changes
PUT /api/instances/{id}        register an instance
GET /api/events                what happens
GET /api/status                how this agent fares
GET /metrics                   OpenMetrics
GET /api/openapi.json          every call, described
";

/// Tells people that open the address where to go.
pub(super) async fn index() -> &'static str {
    INDEX
}

/// The agent's state.
#[utoipa::path(
    get,
    path = "/api/status",
    tag = "agent",
    responses((status = 200, description = "Who it is, where it listens, what is wrong", body = api::AgentStatus))
)]
pub(super) async fn status(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    read::no_query(&uri)?;
    let shared = app.handle.shared();
    let (identity, view) = (&shared.identity, shared.view.load_full());
    let status = api::AgentStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node_id: identity.node_id.to_string(),
        node: identity.node.to_string(),
        zone: identity.zone.to_string(),
        domain: identity.domain.clone(),
        ready: shared.is_ready(),
        uptime_seconds: identity.started.elapsed().as_secs(),
        index: view.index(),
        services: view.service_count(),
        local_instances: view.endpoint_count(identity.node_id),
        api: identity.api.to_string(),
        dns: identity.dns.map(|address| address.to_string()),
        socket: identity.socket.display().to_string(),
        data_dir: identity.data_dir.display().to_string(),
        services_dir: identity.services_dir.display().to_string(),
        problems: shared.problems.list(),
    };
    Ok(json(StatusCode::OK, &status))
}

/// Liveness: whether the agent answers at all.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "agent",
    responses((status = 200, description = "It does", body = api::Probe))
)]
pub(super) async fn healthz() -> Response {
    json(StatusCode::OK, &api::Probe { status: "alive".to_owned() })
}

/// Readiness: whether its answers can be trusted.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "agent",
    responses(
        (status = 200, description = "The first view is published", body = api::Probe),
        (status = 503, description = "Not yet, or not any more", body = api::Error)
    )
)]
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let shared = app.handle.shared();
    if app.closing.is_cancelled() {
        return Err(Problem::busy("not ready: the agent is shutting down"));
    }
    if shared.is_ready() {
        return Ok(json(StatusCode::OK, &api::Probe { status: "ready".to_owned() }));
    }
    let mut reasons = shared.problems.list();
    reasons.insert(0, "no view has been published yet".to_owned());
    Err(Problem::busy(format!("not ready: {}", reasons.join("; ")))
        .hint("lookups answer from what is known so far; GET /api/status tells more"))
}

/// Metrics.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "agent",
    responses((status = 200, description = "OpenMetrics text", body = String,
        content_type = "application/openmetrics-text"))
)]
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let text = app.observer.scrape().map_err(|_| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written")
    })?;
    let content_type = HeaderValue::from_static(CONTENT_TYPE);
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}

/// This API, described.
#[utoipa::path(
    get,
    path = "/api/openapi.json",
    tag = "agent",
    responses((status = 200, description = "OpenAPI 3.1", body = Object))
)]
pub(super) async fn openapi(State(app): State<Arc<App>>) -> Response {
    encoded_json(StatusCode::OK, app.openapi.clone())
}
