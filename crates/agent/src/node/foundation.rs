//! What is there before the first part starts, for all parts to use.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use dunlin_core::catalog::CatalogView;
use dunlin_core::model::NodeId;
use dunlin_shell::metrics::Observer;

use super::{Node, NodeSettings};
use crate::handle::{Identity, Shared};
use crate::observe;

/// Watches and long polls at a time. The API grants fewer: a waiting client that loses its slot to another one ends
/// a moment after the other one has begun.
const MAX_WATCHERS: usize = 32_768;

/// Settings, published values and metrics of the agent.
pub(super) struct Foundation {
    pub(super) settings: NodeSettings,
    pub(super) shared: Arc<Shared>,
    /// Each part adds its metrics when it starts.
    pub(super) observer: Arc<Observer>,
}

impl Foundation {
    /// Publishes a first view, under the addresses that the API and DNS are bound to.
    pub(super) fn new(
        settings: NodeSettings,
        node_id: NodeId,
        view: CatalogView,
        (api, dns): (SocketAddr, Option<SocketAddr>),
    ) -> Self {
        let identity = Identity {
            node_id,
            node: settings.name.clone(),
            zone: settings.config.node.zone.clone(),
            domain: settings.config.dns.domain.as_str().to_owned(),
            api,
            dns,
            socket: settings.data_dir.join(Node::SOCKET),
            data_dir: settings.data_dir.clone(),
            services_dir: settings.config.providers.dir.clone(),
            started: Instant::now(),
        };
        let view = Arc::new(ArcSwap::from_pointee(view));
        let shared = Arc::new(Shared::new(identity, view, MAX_WATCHERS));
        let observer = Arc::new(observe::observer(Arc::clone(&shared)));
        Self { settings, shared, observer }
    }

    /// Shows what is wrong with a subject, or that nothing is, as a task finds it out.
    pub(super) fn reporter(&self, subject: &'static str) -> impl Fn(Option<String>) + Send + use<> {
        let shared = Arc::clone(&self.shared);
        move |problem| match problem {
            Some(problem) => shared.problems.set(subject, problem),
            None => shared.problems.clear(subject),
        }
    }
}
