//! The exchange with other agents, in numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dunlin_shell::metrics::{Collect, Metric, Sink, number};

use crate::net::Context;

/// Reads the counters of one network.
#[derive(Debug)]
pub(crate) struct Cluster {
    context: Arc<Context>,
}

impl Cluster {
    /// Reads the counters of this network.
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

impl Collect for Cluster {
    fn collect(&self, sink: &mut Sink<'_>) {
        let count = |counter: &AtomicU64| number(counter.load(Ordering::Relaxed));
        let size = |size: usize| number(size as u64);
        let exchange = self.context.exchange_stats();
        let help = "Streams to other agents";
        sink.value(&Metric::gauge("cluster_links", help), size(exchange.links));
        let help = "Streams along which news is pushed";
        sink.value(&Metric::gauge("cluster_tree_links", help), size(exchange.tree_links));
        let help = "Nodes of which rows are known to be missing";
        sink.value(&Metric::gauge("cluster_lacking_nodes", help), size(exchange.lacking));
        let help = "Commits that came more than once by streams";
        sink.value(&Metric::counter("cluster_duplicates", help), number(exchange.duplicates));
        let help = "Comparisons with a peer that found a difference";
        sink.value(&Metric::counter("cluster_differences", help), number(exchange.differences));
        let help = "Nodes whose rows differed although their heads were equal";
        sink.value(&Metric::counter("cluster_divergences", help), number(exchange.divergences));
        let help = "Datagrams of bad news sent";
        sink.value(&Metric::counter("cluster_urgent", help), number(exchange.urgent_packets));
        let stats = self.context.stats();
        let help = "Datagrams sent to other agents";
        sink.value(&Metric::counter("cluster_datagrams_sent", help), count(&stats.sent));
        let help = "Datagrams that came";
        sink.value(&Metric::counter("cluster_datagrams_received", help), count(&stats.received));
        let help = "Octets of datagrams sent, without headers";
        sink.value(
            &Metric::counter("cluster_datagram_octets_sent", help),
            count(&stats.sent_octets),
        );
        let help = "Octets of datagrams that came, without headers";
        let received = count(&stats.received_octets);
        sink.value(&Metric::counter("cluster_datagram_octets_received", help), received);
        let help =
            "Packets of membership that went by streams, since datagrams seem not to get through";
        sink.value(&Metric::counter("cluster_tunnelled", help), count(&stats.tunnelled));
        let help = "The local health score: 0 is good, 8 means that timeouts are nine times longer";
        sink.value(&Metric::gauge("cluster_health_score", help), count(&stats.health));
        let faults = Metric::counter("cluster_faults", "What peers and strangers did wrong");
        let counts = self.context.faults();
        sink.values(&faults, counts.map(|(fault, n)| ([("fault", fault.as_str())], number(n))));
    }
}
