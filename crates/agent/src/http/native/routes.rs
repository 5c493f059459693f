//! Every call of Dunlin's own API, with what it needs.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use super::dialect::Native;
use super::{App, agent, events, instances, lookup, nodes, providers, services, watch};
use crate::http::server::{BEARER, BodyLimit, Call, Gate, Right};

/// Octets of a request's body, unless it states a provider's complete set.
const MAX_BODY_OCTETS: usize = 1 << 20;
/// Octets of a provider's complete set.
const MAX_SET_OCTETS: usize = 16 << 20;

/// The name under which calls are counted that are not described.
const OTHER: &str = "other";

/// A call that needs this right and reads no body.
const fn needs(right: Right) -> Call {
    let body = BodyLimit::NONE;
    Call { metric: OTHER, right, credentials: BEARER, dialect: &Native, body }
}

const OPEN: Call = needs(Right::Nothing);
const READ: Call = needs(Right::Read);
const ADMIN: Call = needs(Right::Admin);
const ADMIN_BODY: Call = Call { body: BodyLimit(MAX_BODY_OCTETS), ..ADMIN };
const STATE: Call = needs(Right::Register);
const STATE_BODY: Call = Call { body: BodyLimit(MAX_BODY_OCTETS), ..STATE };
const STATE_SET: Call = Call { body: BodyLimit(MAX_SET_OCTETS), ..STATE };

#[derive(OpenApi)]
#[openapi(info(
    title = "Dunlin",
    description = "Service discovery: who is where, kept true while machines die."
))]
struct Description;

/// All calls behind their gates, and their description.
pub(super) fn routes(gate: &Gate) -> (Router<Arc<App>>, Document) {
    let table = Table { gate, router: OpenApiRouter::with_openapi(Description::openapi()) };
    let (router, document) =
        agent_routes(instance_routes(service_routes(table))).router.split_for_parts();
    // The index is for people and is no part of the description.
    let index = get(agent::index).route_layer(gate.call(READ)).merge(gate.no_such_method(ADMIN));
    let router = router.route("/", index).fallback_service(gate.no_such_call(ADMIN));
    (router, document)
}

fn service_routes(table: Table<'_>) -> Table<'_> {
    table
        .path("/api/services", ADMIN, [(READ, routes!(services::list_services))])
        .path("/api/services/{name}", ADMIN, [(READ, routes!(lookup::lookup_service))])
        .path("/api/services/{name}/watch", ADMIN, [(READ, routes!(watch::watch_service))])
        .path("/api/watch", ADMIN, [(READ, routes!(watch::watch_services))])
        .path("/api/guard", ADMIN, [(READ, routes!(services::list_guarded))])
        .path("/api/guard/{service}", ADMIN, [(ADMIN, routes!(services::release_guard))])
}

fn instance_routes(table: Table<'_>) -> Table<'_> {
    let instance = [
        (STATE_BODY, routes!(instances::put_instance)),
        (STATE, routes!(instances::delete_instance)),
    ];
    let provider = [
        (READ, routes!(providers::get_provider)),
        (STATE_SET, routes!(providers::put_provider)),
        (STATE, routes!(providers::delete_provider)),
    ];
    let (maintenance, drain, check) = (
        [(STATE_BODY, routes!(instances::put_maintenance))],
        [(STATE_BODY, routes!(instances::put_drain))],
        [(STATE_BODY, routes!(instances::put_check))],
    );
    table
        .path("/api/instances", ADMIN, [(READ, routes!(instances::list_instances))])
        .path("/api/instances/{id}", STATE, instance)
        .path("/api/instances/{id}/maintenance", STATE, maintenance)
        .path("/api/instances/{id}/drain", STATE, drain)
        .path("/api/instances/{id}/checks/{check}", STATE, check)
        .path("/api/providers", ADMIN, [(READ, routes!(providers::list_providers))])
        .path("/api/providers/{name}", STATE, provider)
}

fn agent_routes(table: Table<'_>) -> Table<'_> {
    table
        .path("/api/nodes", ADMIN, [(READ, routes!(nodes::list_nodes))])
        .path("/api/nodes/{name}", ADMIN, [(READ, routes!(nodes::get_node))])
        .path("/api/node/drain", ADMIN, [(ADMIN_BODY, routes!(nodes::drain_node))])
        .path("/api/events", ADMIN, [(READ, routes!(events::follow_events))])
        .path("/api/status", ADMIN, [(READ, routes!(agent::status))])
        .path("/healthz", OPEN, [(OPEN, routes!(agent::healthz))])
        .path("/readyz", OPEN, [(OPEN, routes!(agent::readyz))])
        .path("/metrics", ADMIN, [(READ, routes!(agent::metrics))])
        .path("/api/openapi.json", ADMIN, [(READ, routes!(agent::openapi))])
}

/// The calls that were added so far.
struct Table<'g> {
    gate: &'g Gate,
    router: OpenApiRouter<Arc<App>>,
}

impl Table<'_> {
    /// Adds the calls of one path, which are counted under its name. `other` stands for the methods that it does not
    /// take.
    fn path<const N: usize>(
        mut self,
        path: &'static str,
        other: Call,
        calls: [(Call, UtoipaMethodRouter<Arc<App>>); N],
    ) -> Self {
        let named = |call: Call| Call { metric: path, ..call };
        for (call, handlers) in calls {
            debug_assert!(handlers.1.paths.contains_key(path), "{path} is described as another");
            let entrance = self.gate.call(named(call));
            let gated = handlers.map(|methods| methods.route_layer(entrance));
            self.router = self.router.routes(gated);
        }
        self.router = self.router.route(path, self.gate.no_such_method(named(other)));
        self
    }
}
