//! One service: the lookup, and the long poll that waits for its next change.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use dunlin_api as api;
use dunlin_core::catalog::{CatalogView, Interest};
use dunlin_core::model::ServiceName;
use dunlin_shell::Origin;
use tokio::time::{Instant, sleep_until};

use super::filter::Filter;
use super::problem::Problem;
use super::read::{self, Segments};
use super::{App, encoded_json};
use crate::http::server::Waited;

/// The catalog's index at the moment of the answer, also when there is no service to carry one.
const INDEX_HEADER: HeaderName = HeaderName::from_static("dunlin-index");
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
const MAX_WAIT: Duration = Duration::from_secs(600);
const PARAMETERS: &str = "known are zone, health, tag, limit, index and wait";

/// One service with its instances, own zone first. With `index` it waits for the next change.
#[utoipa::path(
    get,
    path = "/api/services/{name}",
    tag = "services",
    params(
        ("name" = String, Path, description = "The service's name, e.g. http.api.prod.shop"),
        ("zone" = Option<String>, Query, description = "This zone alone; `any`, the default, for all"),
        ("health" = Option<String>, Query,
            description = "`healthy` (default: passing or warning, and what guard or panic mode keeps), `passing`, or `any`"),
        ("tag" = Option<Vec<String>>, Query, description = "Instances with this tag; repeat it to ask for several at once"),
        ("limit" = Option<u64>, Query, description = "At most so many instances, nearest first"),
        ("index" = Option<u64>, Query,
            description = "Answer once the service's index exceeds this, or at once when this is not an index of the agent's present life"),
        ("wait" = Option<String>, Query, description = "How long `index` waits: 30s unless given, at most 10m")
    ),
    responses(
        (status = 200, description = "The service", body = api::Service),
        (status = 400, description = "Wrong name or parameter", body = api::Error),
        (status = 404, description = "No instance of it is registered", body = api::Error)
    )
)]
pub(super) async fn lookup_service(
    State(app): State<Arc<App>>,
    Extension(origin): Extension<Origin>,
    Segments(name): Segments<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let name = read::service_name(&name)?;
    let query = LookupQuery::read(&uri)?;
    let Some(index) = query.index else {
        let view = app.handle.shared().view.load();
        return Ok(answer(&app, &view, &name, &query.filter));
    };
    // The URI shares the buffer of what the connection has read, which would be kept as long as the URI.
    drop(uri);
    let view = wait(&app, origin, &name, index, query.wait).await?;
    let mut response = answer(&app, &view, &name, &query.filter);
    response.extensions_mut().insert(Waited);
    Ok(response)
}

#[derive(Debug)]
struct LookupQuery {
    filter: Filter,
    index: Option<u64>,
    wait: Duration,
}

impl LookupQuery {
    fn read(uri: &Uri) -> Result<Self, Problem> {
        let mut query = Self { filter: Filter::default(), index: None, wait: DEFAULT_WAIT };
        let mut has_wait = false;
        for (name, value) in read::query(uri)? {
            match name.as_str() {
                "limit" => {
                    let limit = read::number("limit", &value)?;
                    if limit == 0 {
                        return Err(Problem::bad("query: limit 0 asks for nothing"));
                    }
                    query.filter.limit = Some(usize::try_from(limit).unwrap_or(usize::MAX));
                }
                "index" => query.index = Some(read::number("index", &value)?),
                "wait" => {
                    (query.wait, has_wait) = (read::duration("wait", &value)?, true);
                }
                _ if read::filter_parameter(&mut query.filter, &name, &value)? => {}
                _ => return Err(read::unknown_parameter(&name, PARAMETERS)),
            }
        }
        if query.wait > MAX_WAIT {
            return Err(Problem::bad("query: wait is longer than 10m").hint("ask again after 10m"));
        }
        if has_wait && query.index.is_none() {
            return Err(Problem::bad("query: wait without index")
                .hint("index is what you have: the index of the last answer, or 0"));
        }
        Ok(query)
    }
}

fn answer(app: &App, view: &CatalogView, name: &ServiceName, filter: &Filter) -> Response {
    let mut response = match view.service(name) {
        Some(service) => encoded_json(StatusCode::OK, app.encodings.of(service, filter).json()),
        None => Problem::not_found(format!("no instance of {name} is registered"))
            .hint("GET /api/services lists all; ?index=0 waits until it is there")
            .into_response(),
    };
    response.headers_mut().insert(INDEX_HEADER, HeaderValue::from(view.index()));
    response
}

/// Waits until the service differs from what the client knows, or time is up, and returns the view of that moment.
async fn wait(
    app: &App,
    origin: Origin,
    name: &ServiceName,
    index: u64,
    wait: Duration,
) -> Result<Arc<CatalogView>, Problem> {
    let shared = app.handle.shared();
    let deadline = Instant::now() + wait;
    let watcher = shared.watchers.watch(Interest::Services(vec![name.clone()]));
    let mut slot = None;
    loop {
        let view = shared.view.load_full();
        if has_news(&view, name, index) || Instant::now() >= deadline {
            return Ok(view);
        }
        slot = slot.or_else(|| app.watches.take(origin.client()));
        let (Some(watcher), Some(slot)) = (&watcher, &slot) else {
            return Err(Problem::too_many_watches());
        };
        tokio::select! {
            () = watcher.changed() => {}
            () = slot.lost() => return Err(Problem::too_many_watches()),
            () = sleep_until(deadline) => {}
            () = app.closing.cancelled() => return Ok(shared.view.load_full()),
        }
    }
}

/// Whether a service differs from what a client with this index knows.
fn has_news(view: &CatalogView, name: &ServiceName, index: u64) -> bool {
    // An index from the future is one of an earlier life of the agent: what the client knows may be anything.
    if index > view.index() {
        return true;
    }
    match view.service(name) {
        Some(service) => service.index > index,
        // A client that knows nothing waits for the service to come.
        None if index == 0 => false,
        None => match view.removed_since(index) {
            Some(mut removed) => removed.any(|(_, removed)| removed == name),
            None => true,
        },
    }
}
