//! Services as lists: all of them, and those the guard holds.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use dunlin_api as api;
use dunlin_core::catalog::Standing;
use dunlin_core::host;

use super::problem::Problem;
use super::read::{self, Segments};
use super::{App, json, present};

/// All services.
#[utoipa::path(
    get,
    path = "/api/services",
    tag = "services",
    responses((status = 200, description = "All services by name", body = api::ServiceList))
)]
pub(super) async fn list_services(
    State(app): State<Arc<App>>,
    uri: Uri,
) -> Result<Response, Problem> {
    read::no_query(&uri)?;
    let view = app.handle.shared().view.load_full();
    let mut services: Vec<_> = view.services().map(|service| present::summary(service)).collect();
    services.sort_unstable_by(|a, b| a.service.cmp(&b.service));
    Ok(json(StatusCode::OK, &api::ServiceList { index: view.index(), services }))
}

/// Services of which the guard holds back a sharp drop.
#[utoipa::path(
    get,
    path = "/api/guard",
    tag = "guard",
    responses((status = 200, description = "Guarded services by name", body = api::GuardList))
)]
pub(super) async fn list_guarded(
    State(app): State<Arc<App>>,
    uri: Uri,
) -> Result<Response, Problem> {
    read::no_query(&uri)?;
    let view = app.handle.shared().view.load_full();
    let guarded = view.services().filter_map(|service| {
        let mark = service.guard?;
        let held = service.endpoints.iter().filter(|e| e.standing == Standing::Held).count();
        Some(api::Guarded {
            service: service.name.to_string(),
            since: mark.since.to_string(),
            held,
        })
    });
    let mut guarded: Vec<_> = guarded.collect();
    guarded.sort_unstable_by(|a, b| a.service.cmp(&b.service));
    Ok(json(StatusCode::OK, &api::GuardList { guarded }))
}

/// Believe the drop of a service: ends the guard's hold.
#[utoipa::path(
    delete,
    path = "/api/guard/{service}",
    tag = "guard",
    params(("service" = String, Path, description = "The service's name")),
    responses(
        (status = 204, description = "The hold has ended"),
        (status = 404, description = "The service is not guarded", body = api::Error)
    )
)]
pub(super) async fn release_guard(
    State(app): State<Arc<App>>,
    Segments(name): Segments<String>,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    read::no_query(&uri)?;
    let name = read::service_name(&name)?;
    let is_guarded = {
        let view = app.handle.shared().view.load();
        view.service(&name).is_some_and(|service| service.guard.is_some())
    };
    if !is_guarded {
        return Err(Problem::not_found(format!("{name} is not guarded"))
            .hint("GET /api/guard lists what is"));
    }
    app.handle.ask(host::Request::ReleaseGuard(name)).await?;
    Ok(StatusCode::NO_CONTENT)
}
