//! The nodes of the cluster: where they are, whether they can be reached, and how far their rows have come.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use dunlin_api as api;
use dunlin_core::catalog::{CatalogView, NodeView};
use dunlin_core::host;
use dunlin_core::model::{NodeName, NodePhase};

use super::problem::Problem;
use super::read::{self, Segments};
use super::{App, json, present};
use crate::Shared;

/// All nodes.
#[utoipa::path(
    get,
    path = "/api/nodes",
    tag = "nodes",
    responses((status = 200, description = "All nodes by name", body = api::NodeList))
)]
pub(super) async fn list_nodes(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    read::no_query(&uri)?;
    let shared = app.handle.shared();
    let view = shared.view.load_full();
    let nodes = view.nodes().map(|node| present::node(&view, node, shared));
    Ok(json(StatusCode::OK, &api::NodeList { nodes: nodes.collect() }))
}

/// One node.
#[utoipa::path(
    get,
    path = "/api/nodes/{name}",
    tag = "nodes",
    params(("name" = String, Path, description = "The node's name")),
    responses(
        (status = 200, description = "The node", body = api::Node),
        (status = 404, description = "No node has this name", body = api::Error)
    )
)]
pub(super) async fn get_node(
    State(app): State<Arc<App>>,
    Segments(name): Segments<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    read::no_query(&uri)?;
    let name = NodeName::parse(&name).map_err(|e| Problem::bad(format!("node: {e}")))?;
    let shared = app.handle.shared();
    let view = shared.view.load_full();
    let Some(node) = view.node(&name) else {
        return Err(Problem::not_found(format!("no node is called {name}"))
            .hint("GET /api/nodes lists all"));
    };
    Ok(json(StatusCode::OK, &present::node(&view, node, shared)))
}

/// Take this agent's node out of service, or put it back. Its instances get no new clients meanwhile.
#[utoipa::path(
    put,
    path = "/api/node/drain",
    tag = "nodes",
    request_body = api::NodeDrainRequest,
    responses(
        (status = 200, description = "The node as it is now", body = api::Node),
        (status = 204, description = "It is done; another live node has this node's name and is shown")
    )
)]
pub(super) async fn drain_node(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Problem> {
    read::no_query(request.uri())?;
    let wish: api::NodeDrainRequest = read::body(&app, request).await?;
    let phase = if wish.enabled { NodePhase::Draining } else { NodePhase::Active };
    app.handle.ask(host::Request::SetNodePhase(phase)).await?;
    let shared = app.handle.shared();
    let view = shared.view.load_full();
    Ok(match own_node(&view, shared) {
        Some(own) => json(StatusCode::OK, &present::node(&view, own, shared)),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// This agent's node. Of several nodes with one name the view shows one; if that is another node, there is none.
pub(super) fn own_node<'v>(view: &'v CatalogView, shared: &Shared) -> Option<&'v Arc<NodeView>> {
    view.node(&shared.identity.node).filter(|node| node.id == shared.identity.node_id)
}
