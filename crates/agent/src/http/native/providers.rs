//! Providers: sources that state their complete set of instances.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use dunlin_api as api;
use dunlin_core::host::{self, RequestError};
use dunlin_core::model::{ProviderId, Registration, limits};

use super::instances::{invalid, node_address};
use super::problem::Problem;
use super::read::{self, Segments};
use super::{App, encoded_json};
use crate::access::Grant;
use crate::providers::translate;

/// The shortest time to live of a provider's set.
const MIN_TTL: Duration = Duration::from_secs(1);

/// All providers and how they fare.
#[utoipa::path(
    get,
    path = "/api/providers",
    tag = "providers",
    responses((status = 200, description = "By name", body = api::ProviderList))
)]
pub(super) async fn list_providers(
    State(app): State<Arc<App>>,
    uri: Uri,
) -> Result<Response, Problem> {
    read::no_query(&uri)?;
    let registry = app.handle.shared().registry.load_full();
    Ok(encoded_json(StatusCode::OK, app.provider_pages.all(&registry)))
}

/// One provider and how it fares.
#[utoipa::path(
    get,
    path = "/api/providers/{name}",
    tag = "providers",
    params(("name" = String, Path, description = "`deploy` or `http:deploy`, `run.NAME` or `run:NAME`, `file:NAME`, `api:instances`")),
    responses(
        (status = 200, description = "The provider", body = api::Provider),
        (status = 404, description = "There is none of this name", body = api::Error)
    )
)]
pub(super) async fn get_provider(
    State(app): State<Arc<App>>,
    Segments(name): Segments<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    read::no_query(&uri)?;
    let provider = provider_id(&name)?;
    page(&app, &provider)
}

/// State a provider's complete set: what it no longer mentions is gone.
#[utoipa::path(
    put,
    path = "/api/providers/{name}",
    tag = "providers",
    params(("name" = String, Path, description = "`deploy` for the provider `http:deploy`, `run.NAME` for `run:NAME`")),
    request_body = api::ProviderSet,
    responses(
        (status = 200, description = "The provider as it is now", body = api::Provider),
        (status = 400, description = "Something in it is wrong; nothing was changed", body = api::Error)
    )
)]
pub(super) async fn put_provider(
    State(app): State<Arc<App>>,
    Extension(grant): Extension<Grant>,
    Segments(name): Segments<String>,
    request: Request,
) -> Result<Response, Problem> {
    read::no_query(request.uri())?;
    let provider = provider_id(&name)?;
    if let Some(refusal) = provider.kind().set_refusal() {
        let error = format!("{provider} {}", refusal.why);
        return Err(Problem::new(StatusCode::CONFLICT, error).hint(refusal.instead));
    }
    let (set, _slot) = read::body_and_slot::<api::ProviderSet>(&app, request).await?;
    let ttl = set.ttl.as_deref().map(time_to_live).transpose()?;
    let instances = registrations(&app, set.instances, &provider)?;
    let put = host::Request::PutProvider { provider: provider.clone(), instances, ttl };
    app.ask_as(&grant, put).await?;
    page(&app, &provider)
}

/// Forget a provider and its instances.
#[utoipa::path(
    delete,
    path = "/api/providers/{name}",
    tag = "providers",
    params(("name" = String, Path, description = "`deploy` or `http:deploy`, `run.NAME` or `run:NAME`")),
    responses(
        (status = 204, description = "It is forgotten"),
        (status = 404, description = "There is none of this name", body = api::Error)
    )
)]
pub(super) async fn delete_provider(
    State(app): State<Arc<App>>,
    Extension(grant): Extension<Grant>,
    Segments(name): Segments<String>,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    read::no_query(&uri)?;
    // A provider of a kind that only a newer version knows can be removed too: after a downgrade nobody states it any
    // more.
    let provider =
        provider_id(&name).or_else(|problem| ProviderId::decode(&name).map_err(|_| problem))?;
    if let Some(refusal) = provider.kind().removal_refusal() {
        let error = format!("{provider} {}; {}", refusal.why, refusal.instead);
        return Err(RequestError::Conflict(error).into());
    }
    app.ask_as(&grant, host::Request::RemoveProvider(provider)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn provider_id(text: &str) -> Result<ProviderId, Problem> {
    ProviderId::parse_in_path(text).map_err(|error| Problem::bad(format!("provider: {error}")))
}

/// The report on a provider, as JSON.
fn page(app: &App, id: &ProviderId) -> Result<Response, Problem> {
    let registry = app.handle.shared().registry.load_full();
    let page = app.provider_pages.one(&registry, id);
    page.map(|page| encoded_json(StatusCode::OK, page)).ok_or_else(|| {
        Problem::not_found(format!("there is no provider {id}"))
            .hint("GET /api/providers lists all")
    })
}

fn time_to_live(text: &str) -> Result<Duration, Problem> {
    let shown: String = text.chars().take(64).collect();
    let ttl = humantime::parse_duration(text).map_err(|_| {
        Problem::bad(format!("body: ttl {shown:?} is not a duration")).hint("e.g. \"15s\"")
    })?;
    if !(MIN_TTL..=limits::MAX_CHECK_INTERVAL).contains(&ttl) {
        return Err(Problem::bad(format!("body: ttl {shown:?} is outside 1s to 1 day")));
    }
    Ok(ttl)
}

fn registrations(
    app: &App,
    wire: Vec<api::Registration>,
    provider: &ProviderId,
) -> Result<Vec<Registration>, Problem> {
    if wire.len() > limits::MAX_INSTANCES_PER_NODE {
        let most = limits::MAX_INSTANCES_PER_NODE;
        return Err(Problem::bad(format!("body: {} instances; at most {most}", wire.len())));
    }
    let node_address = node_address(app)?;
    let (mut ids, mut read) = (BTreeSet::new(), Vec::with_capacity(wire.len()));
    for (at, one) in wire.into_iter().enumerate() {
        let id: String = one.id.chars().take(limits::MAX_ID_OCTETS).collect();
        let place = format!("body: instances[{at}] ({id})");
        let registration = translate::registration(one, provider, node_address)
            .map_err(|error| invalid(&error).at(&place))?;
        if !ids.insert(registration.instance.id.clone()) {
            return Err(Problem::bad(format!("{place}: its id was used above"))
                .hint("ids are unique on a node; nothing was changed"));
        }
        read.push(registration);
    }
    Ok(read)
}
