//! Watches: Server-Sent Events (WHATWG HTML §9.2) that tell the present state, then each change of it.
//!
//! A watch keeps no queue, only the index up to which it has told. When its client is ready for more it looks
//! at the newest view and tells what changed since, so a slow client gets fewer, later, but always whole and
//! present states. The id of an event is the index up to which its reader knows everything it asked for;
//! of several services that changed together, only the last carries it, so that resuming loses none.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dunlin_api as api;
use dunlin_core::catalog::{CatalogView, Interest, ServiceView};
use dunlin_core::model::ServiceName;
use dunlin_shell::{Origin, Slot};
use futures_util::stream;
use tokio::time::sleep;

use super::App;
use super::batch::{EventBatch, ServiceState};
use super::filter::Filter;
use super::problem::Problem;
use super::read::{self, Segments};
use crate::Watcher;

/// Services that one watch may name.
const MAX_NAMES: usize = 1024;
pub(super) const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// Watch one service.
#[utoipa::path(
    get,
    path = "/api/services/{name}/watch",
    tag = "services",
    params(
        ("name" = String, Path, description = "The service's name; it need not exist yet"),
        ("zone" = Option<String>, Query, description = "This zone alone; `any`, the default, for all"),
        ("health" = Option<String>, Query, description = "`healthy` (default), `passing` or `any`"),
        ("tag" = Option<Vec<String>>, Query, description = "Instances with this tag; repeat it to ask for several at once"),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event seen: tells only what changed after it")
    ),
    responses(
        (status = 200, content_type = "text/event-stream", body = api::Service,
            description = "`event: snapshot` with the service, then `event: change` with the whole service after each change"),
        (status = 400, description = "Wrong name or parameter", body = api::Error),
        (status = 503, description = "Too many watches", body = api::Error)
    )
)]
pub(super) async fn watch_service(
    State(app): State<Arc<App>>,
    Extension(origin): Extension<Origin>,
    Segments(name): Segments<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let name = read::service_name(&name)?;
    let mut filter = Filter::default();
    for (parameter, value) in read::query(&uri)? {
        if !read::filter_parameter(&mut filter, &parameter, &value)? {
            let known = "known are zone, health and tag";
            return Err(read::unknown_parameter(&parameter, known));
        }
    }
    start(app, origin, WatchedServices::One(name), filter, &headers)
}

/// Watch several services, or all.
#[utoipa::path(
    get,
    path = "/api/watch",
    tag = "services",
    params(
        ("service" = Option<Vec<String>>, Query, description = "A service's name, up to 1024 times; all services without it"),
        ("zone" = Option<String>, Query, description = "This zone alone; `any`, the default, for all"),
        ("health" = Option<String>, Query, description = "`healthy` (default), `passing` or `any`"),
        ("tag" = Option<Vec<String>>, Query, description = "Instances with this tag; repeat it to ask for several at once"),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event seen: tells only what changed after it")
    ),
    responses(
        (status = 200, content_type = "text/event-stream", body = api::ServiceSet,
            description = "`event: snapshot` with all of them, then `event: change` with one whole Service after each change; a removed one has no instances"),
        (status = 400, description = "Wrong name or parameter", body = api::Error),
        (status = 503, description = "Too many watches", body = api::Error)
    )
)]
pub(super) async fn watch_services(
    State(app): State<Arc<App>>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let (mut filter, mut names) = (Filter::default(), Vec::new());
    for (parameter, value) in read::query(&uri)? {
        if parameter == "service" {
            names.push(read::service_name(&value)?);
        } else if !read::filter_parameter(&mut filter, &parameter, &value)? {
            let known = "known are service, zone, health and tag";
            return Err(read::unknown_parameter(&parameter, known));
        }
    }
    names.sort_unstable();
    names.dedup();
    if names.len() > MAX_NAMES {
        return Err(Problem::bad(format!("query: {} services; at most {MAX_NAMES}", names.len()))
            .hint("without parameters a watch tells of all services"));
    }
    let watched =
        if names.is_empty() { WatchedServices::All } else { WatchedServices::Some(names) };
    start(app, origin, watched, filter, &headers)
}

/// An answer that is a stream of events.
pub(super) fn event_stream(body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // Else nginx in front of us would gather events instead of passing them on.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, body).into_response()
}

/// The id of the last event that a resuming client has seen. What is not a number is no id of ours.
pub(super) fn last_event_id(headers: &HeaderMap) -> Option<u64> {
    headers.get("last-event-id")?.to_str().ok()?.trim().parse().ok()
}

fn start(
    app: Arc<App>,
    origin: Origin,
    watched: WatchedServices,
    filter: Filter,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let slot = app.watches.take(origin.client()).ok_or_else(Problem::too_many_watches)?;
    let shared = app.handle.shared();
    let interest = match &watched {
        WatchedServices::One(name) => Interest::Services(vec![name.clone()]),
        WatchedServices::Some(names) => Interest::Services(names.clone()),
        WatchedServices::All => Interest::All,
    };
    let watcher = shared.watchers.watch(interest).ok_or_else(Problem::too_many_watches)?;
    // An id that this life of the agent has not given, or that is too old, is as good as none.
    let view = shared.view.load();
    let resumable = |id: &u64| *id <= view.index() && view.removed_since(*id).is_some();
    let told = last_event_id(headers).filter(resumable);
    drop(view);
    let watch = Watch { app, slot, watcher, watched, filter, told, batch: EventBatch::default() };
    let chunks = stream::unfold(watch, |mut watch| async move {
        let chunk = watch.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), watch))
    });
    Ok(event_stream(Body::from_stream(chunks)))
}

/// The services that a watch tells of.
#[derive(Debug)]
enum WatchedServices {
    One(ServiceName),
    Some(Vec<ServiceName>),
    All,
}

/// One client's watch.
struct Watch {
    app: Arc<App>,
    slot: Slot,
    watcher: Watcher,
    watched: WatchedServices,
    filter: Filter,
    /// Up to which index the client has been told everything; none before the first snapshot.
    told: Option<u64>,
    batch: EventBatch,
}

impl Watch {
    /// The next piece to send; none when the agent stops, or the slot goes to another client.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(chunk) = self.batch.next(&self.app.encodings, &self.filter) {
                return Some(chunk);
            }
            if self.app.closing.is_cancelled() {
                return None;
            }
            if self.gather() {
                continue;
            }
            tokio::select! {
                () = self.watcher.changed() => {}
                () = self.app.closing.cancelled() => {}
                () = self.slot.lost() => return None,
                () = sleep(self.app.limits.keep_alive) => return Some(KEEP_ALIVE),
            }
        }
    }

    /// Compares what the client was told with the newest view. Returns whether there is something to tell.
    fn gather(&mut self) -> bool {
        let view = self.app.handle.shared().view.load_full();
        let changes = self.told.and_then(|told| self.watched.changes(&view, told));
        self.told = Some(view.index());
        match changes {
            Some(changes) if changes.is_empty() => return false,
            Some(changes) => self.batch = EventBatch::changes(changes),
            None => {
                let is_set = !matches!(self.watched, WatchedServices::One(_));
                self.batch = EventBatch::snapshot(view.index(), self.watched.all(&view), is_set);
            }
        }
        true
    }
}

impl WatchedServices {
    /// The present state of all.
    fn all(&self, view: &CatalogView) -> Vec<ServiceState> {
        let state = |name: &ServiceName| match view.service(name) {
            Some(service) => ServiceState::Present(Arc::clone(service)),
            None => ServiceState::Absent(name.clone(), view.index()),
        };
        match self {
            Self::One(name) => vec![state(name)],
            Self::Some(names) => names.iter().map(state).collect(),
            Self::All => view.services_by_product().cloned().map(ServiceState::Present).collect(),
        }
    }

    /// The present state of those that changed after an index, oldest change first; `None` if that is
    /// too long ago to know.
    fn changes(&self, view: &CatalogView, after: u64) -> Option<Vec<ServiceState>> {
        let removed = view.removed_since(after)?;
        let is_news = |service: &&Arc<ServiceView>| service.index > after;
        let present = |name: &ServiceName| view.service(name).filter(is_news).cloned();
        let mut changes: Vec<ServiceState> = match self {
            Self::One(name) => present(name).map(ServiceState::Present).into_iter().collect(),
            Self::Some(names) => {
                names.iter().filter_map(present).map(ServiceState::Present).collect()
            }
            Self::All => {
                view.services().filter(is_news).cloned().map(ServiceState::Present).collect()
            }
        };
        // A service may have gone, come back and gone again; only its present absence matters.
        let gone = removed.filter(|(_, name)| self.includes(name) && view.service(name).is_none());
        let last: BTreeMap<&ServiceName, u64> = gone.map(|(at, name)| (name, at)).collect();
        changes.extend(last.into_iter().map(|(name, at)| ServiceState::Absent(name.clone(), at)));
        changes.sort_by(|a, b| (a.index(), a.name()).cmp(&(b.index(), b.name())));
        Some(changes)
    }

    fn includes(&self, name: &ServiceName) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Some(names) => names.binary_search(name).is_ok(),
            Self::All => true,
        }
    }
}
