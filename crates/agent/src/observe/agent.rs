//! What the agent knows: services, instances by health, guarded services, watchers, events.
//!
//! The values are read from the published view at each scrape: the cost grows with the catalog, and nothing is kept.

use std::sync::Arc;

use dunlin_core::catalog::{NodeStatus, Standing};
use dunlin_core::model::Health;
use dunlin_shell::metrics::{Collect, Metric, Sink, number};

use crate::Shared;

#[derive(Debug)]
pub(super) struct Agent {
    shared: Arc<Shared>,
}

impl Agent {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn catalog(&self, sink: &mut Sink<'_>) {
        let view = self.shared.view.load_full();
        let (mut by_health, mut held, mut guarded) = ([0_usize; Health::ALL.len()], 0, 0);
        for service in view.services() {
            guarded += usize::from(service.guard.is_some());
            for endpoint in service.endpoints.iter() {
                held += usize::from(endpoint.standing == Standing::Held);
                if let Some(at) = Health::ALL.iter().position(|h| *h == endpoint.health) {
                    by_health[at] += 1;
                }
            }
        }
        let instances = Metric::gauge("catalog_instances", "Instances known, by health");
        let counts = Health::ALL.iter().zip(by_health);
        sink.values(&instances, counts.map(|(h, n)| ([("health", h.as_str())], count(n))));
        let index = Metric::gauge("catalog_index", "The catalog's index, growing with each change");
        sink.value(&index, number(view.index()));
        let services = Metric::gauge("catalog_services", "Services known");
        sink.value(&services, count(view.service_count()));
        let nodes = Metric::gauge("catalog_nodes", "Nodes known, by status");
        let by_status = NodeStatus::ALL.map(|status| {
            let nodes = view.nodes().filter(|n| n.status == status).count();
            ([("status", status.as_str())], count(nodes))
        });
        sink.values(&nodes, by_status);
        let guarded_services =
            Metric::gauge("guard_services", "Services whose drop the guard holds back");
        sink.value(&guarded_services, count(guarded));
        let held_instances =
            Metric::gauge("guard_held_instances", "Instances in answers because of the guard");
        sink.value(&held_instances, count(held));
    }
}

impl Collect for Agent {
    fn collect(&self, sink: &mut Sink<'_>) {
        self.catalog(sink);
        let watchers = Metric::gauge("watchers", "Open watches and long polls");
        sink.value(&watchers, count(self.shared.watchers.count()));
        let ready = Metric::gauge("ready", "Whether lookups are answered from a published view");
        sink.value(&ready, f64::from(u8::from(self.shared.is_ready())));
        let problems = Metric::gauge("problems", "What is wrong right now, see /api/status");
        sink.value(&problems, count(self.shared.problems.list().len()));
        let events = Metric::counter("events", "What happened, by kind");
        let totals = self.shared.events.totals();
        sink.values(&events, totals.iter().map(|(k, n)| ([("kind", k.as_str())], number(*n))));
        let build = Metric::gauge("build_info", "Always 1; the label tells the version");
        sink.values(&build, [([("version", env!("CARGO_PKG_VERSION"))], 1.0)]);
    }
}

fn count(count: usize) -> f64 {
    number(count as u64)
}
