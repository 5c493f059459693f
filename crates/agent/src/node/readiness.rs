//! The wait for the agent's readiness as a part of the node.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::info;

use super::foundation::Foundation;
use super::parts::{Part, Phase};
use crate::net::Context;

/// How long an agent waits for a link to another agent before it is ready without one.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Declares the agent ready. An agent that is to join a cluster is ready when it has joined, or when it cannot reach
/// the cluster: then it answers what it knows.
pub(super) fn start(base: &Foundation, network: Option<Arc<Context>>) -> Part {
    let part = Part::new("readiness", Phase::First);
    let (shared, stop) = (Arc::clone(&base.shared), part.stop.clone());
    let ready = move || {
        shared.set_ready(true);
        info!(node = %shared.identity.node, api = %shared.identity.api, "agent is ready");
    };
    let joins = !base.settings.config.cluster.join.is_empty();
    let Some(network) = network.filter(|_| joins) else {
        ready();
        return part;
    };
    part.tasks.spawn(async move {
        let joined = timeout(JOIN_TIMEOUT, network.joined());
        if stop.run_until_cancelled(joined).await.is_some() {
            ready();
        }
    });
    part
}
