//! The instances of this agent, one by one: register, deregister, take out of answers, push results of checks.

use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use dunlin_api as api;
use dunlin_core::host;
use dunlin_core::model::{
    CheckId, CheckRow, CheckStatus, InstanceError, InstanceId, Mode, ProviderId,
};

use super::nodes::own_node;
use super::problem::Problem;
use super::read::{self, Segments};
use super::{App, json, present};
use crate::access::Grant;
use crate::providers::translate;

/// The instances registered on this agent.
#[utoipa::path(
    get,
    path = "/api/instances",
    tag = "instances",
    responses((status = 200, description = "By id, whichever provider stated them", body = api::LocalInstanceList))
)]
pub(super) async fn list_instances(
    State(app): State<Arc<App>>,
    uri: Uri,
) -> Result<Response, Problem> {
    read::no_query(&uri)?;
    let view = app.handle.shared().view.load_full();
    let instances = view.own_endpoints().map(present::local_instance).collect();
    Ok(json(StatusCode::OK, &api::LocalInstanceList { instances }))
}

/// Register an instance, or replace it. It survives restarts of the agent.
#[utoipa::path(
    put,
    path = "/api/instances/{id}",
    tag = "instances",
    params(("id" = String, Path, description = "Unique on this node: letters, digits and `. _ : @ -`")),
    request_body = api::Registration,
    responses(
        (status = 201, description = "It is new", body = api::LocalInstance),
        (status = 200, description = "It was there", body = api::LocalInstance),
        (status = 400, description = "Something in it is wrong", body = api::Error),
        (status = 409, description = "Another provider has the id", body = api::Error)
    )
)]
pub(super) async fn put_instance(
    State(app): State<Arc<App>>,
    Extension(grant): Extension<Grant>,
    Segments(id): Segments<String>,
    request: Request,
) -> Result<Response, Problem> {
    read::no_query(request.uri())?;
    let id = instance_id(&id)?;
    let mut wire: api::Registration = read::body(&app, request).await?;
    if !wire.id.is_empty() && wire.id != id.as_str() {
        let shown: String = wire.id.chars().take(128).collect();
        let error = format!("body: id {shown:?} is not the path's, {:?}", id.as_str());
        return Err(Problem::bad(error).hint("leave the id out of the body"));
    }
    wire.id = id.to_string();
    let node_address = node_address(&app)?;
    let registration = translate::registration(wire, &ProviderId::api(), node_address)
        .map_err(|error| invalid(&error))?;
    let stated = registration.clone();
    let answer = app.ask_as(&grant, host::Request::Register(Box::new(registration))).await?;
    let status = match answer {
        host::Answer::Created => StatusCode::CREATED,
        host::Answer::Done => StatusCode::OK,
    };
    let view = app.handle.shared().view.load_full();
    let stored = view.own_endpoint(&id);
    stored.filter(|e| e.instance.service == stated.instance.service).map_or_else(
        // Another client deregistered it in the meantime, or moved it to another service.
        || Err(gone(&id)),
        |endpoint| Ok(json(status, &present::local_instance(endpoint))),
    )
}

/// Deregister an instance.
#[utoipa::path(
    delete,
    path = "/api/instances/{id}",
    tag = "instances",
    params(("id" = String, Path, description = "The instance's id")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 403, description = "The caller may not state this service", body = api::Error),
        (status = 404, description = "This agent has no such instance", body = api::Error),
        (status = 409, description = "A provider states it; take it out there", body = api::Error)
    )
)]
pub(super) async fn delete_instance(
    State(app): State<Arc<App>>,
    Extension(grant): Extension<Grant>,
    Segments(id): Segments<String>,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    read::no_query(&uri)?;
    let id = instance_id(&id)?;
    app.ask_as(&grant, host::Request::Deregister(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Take an instance out of answers for maintenance, or put it back.
#[utoipa::path(
    put,
    path = "/api/instances/{id}/maintenance",
    tag = "instances",
    params(("id" = String, Path, description = "The instance's id")),
    request_body = api::MaintenanceRequest,
    responses(
        (status = 200, description = "The instance as it is now", body = api::LocalInstance),
        (status = 403, description = "The caller may not state this service", body = api::Error),
        (status = 404, description = "This agent has no such instance", body = api::Error)
    )
)]
pub(super) async fn put_maintenance(
    State(app): State<Arc<App>>,
    Extension(grant): Extension<Grant>,
    Segments(id): Segments<String>,
    request: Request,
) -> Result<Response, Problem> {
    read::no_query(request.uri())?;
    let id = instance_id(&id)?;
    let wish: api::MaintenanceRequest = read::body(&app, request).await?;
    let mode = if wish.enabled {
        Mode::maintenance(&wish.reason).map_err(|error| invalid(&error))?
    } else {
        Mode::Active
    };
    set_mode(&app, &grant, id, mode).await
}

/// Drain an instance: no new work for it, it finishes what it has. `{"enabled":false}` puts it back.
#[utoipa::path(
    put,
    path = "/api/instances/{id}/drain",
    tag = "instances",
    params(("id" = String, Path, description = "The instance's id")),
    request_body = Option<api::DrainRequest>,
    responses(
        (status = 200, description = "The instance as it is now", body = api::LocalInstance),
        (status = 403, description = "The caller may not state this service", body = api::Error),
        (status = 404, description = "This agent has no such instance", body = api::Error)
    )
)]
pub(super) async fn put_drain(
    State(app): State<Arc<App>>,
    Extension(grant): Extension<Grant>,
    Segments(id): Segments<String>,
    request: Request,
) -> Result<Response, Problem> {
    read::no_query(request.uri())?;
    let id = instance_id(&id)?;
    let wish: Option<api::DrainRequest> = read::optional_body(&app, request).await?;
    let mode = if wish.unwrap_or_default().enabled { Mode::Draining } else { Mode::Active };
    set_mode(&app, &grant, id, mode).await
}

/// Push the status of a TTL check.
#[utoipa::path(
    put,
    path = "/api/instances/{id}/checks/{check}",
    tag = "instances",
    params(
        ("id" = String, Path, description = "The instance's id"),
        ("check" = String, Path, description = "The check's id")
    ),
    request_body = api::CheckPush,
    responses(
        (status = 204, description = "It is taken"),
        (status = 400, description = "It is no TTL check, or the status is unknown", body = api::Error),
        (status = 403, description = "The caller may not state this service", body = api::Error),
        (status = 404, description = "This agent has no such instance or check", body = api::Error)
    )
)]
pub(super) async fn put_check(
    State(app): State<Arc<App>>,
    Extension(grant): Extension<Grant>,
    Segments((id, check)): Segments<(String, String)>,
    request: Request,
) -> Result<StatusCode, Problem> {
    read::no_query(request.uri())?;
    let instance = instance_id(&id)?;
    let check = CheckId::parse(&check).map_err(|e| Problem::bad(format!("check: {e}")))?;
    let push: api::CheckPush = read::body(&app, request).await?;
    let known = [CheckStatus::Passing, CheckStatus::Warning, CheckStatus::Critical];
    let Some(status) = known.into_iter().find(|status| status.as_str() == push.status) else {
        let shown: String = push.status.chars().take(64).collect();
        return Err(Problem::bad(format!("body: status {shown:?} is unknown"))
            .hint("status is one of passing, warning, critical"));
    };
    let output = CheckRow::cut_output(&push.output).to_owned();
    app.ask_as(&grant, host::Request::PushCheck { instance, check, status, output }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_mode(
    app: &App,
    grant: &Grant,
    id: InstanceId,
    mode: Mode,
) -> Result<Response, Problem> {
    app.ask_as(grant, host::Request::SetMode(id.clone(), mode)).await?;
    let view = app.handle.shared().view.load_full();
    match view.own_endpoint(&id) {
        Some(endpoint) => Ok(json(StatusCode::OK, &present::local_instance(endpoint))),
        None => Err(gone(&id)),
    }
}

fn instance_id(text: &str) -> Result<InstanceId, Problem> {
    InstanceId::parse(text).map_err(|error| Problem::bad(format!("instance: {error}")))
}

fn gone(id: &InstanceId) -> Problem {
    Problem::not_found(format!("instance {id} was deregistered in the meantime"))
}

/// The answer to a registration with something wrong in it.
pub(super) fn invalid(error: &InstanceError) -> Problem {
    Problem::bad(format!("body: {error}"))
        .hint("nothing was changed; GET /api/openapi.json tells what belongs there")
}

/// The address of instances whose registration does not have one: the node's own.
pub(super) fn node_address(app: &App) -> Result<std::net::IpAddr, Problem> {
    let shared = app.handle.shared();
    let own = own_node(&shared.view.load(), shared).map(|node| node.row.address);
    own.ok_or_else(|| Problem::busy("the agent is starting and does not know its own address yet"))
}
