//! The counters of the DNS server as metrics.

use std::sync::Arc;

use dunlin_shell::metrics::{Collect, Metric, Sink, number};

use crate::dns::DnsStats;

/// Reads the DNS server's counters.
#[derive(Debug)]
pub struct Dns {
    stats: Arc<DnsStats>,
}

impl Dns {
    /// Reads these counters.
    #[must_use]
    pub fn new(stats: Arc<DnsStats>) -> Self {
        Self { stats }
    }
}

impl Collect for Dns {
    fn collect(&self, sink: &mut Sink<'_>) {
        let totals = self.stats.totals();
        let queries = Metric::counter("dns_queries", "Questions received");
        sink.values(
            &queries,
            [
                ([("transport", "udp")], number(totals.udp_queries)),
                ([("transport", "tcp")], number(totals.tcp_queries)),
            ],
        );
        let replies = Metric::counter("dns_replies", "Replies by code, without forwarded ones");
        sink.values(&replies, totals.replies.map(|(code, n)| ([("code", code)], number(n))));
        let counters = [
            ("dns_truncated", "Replies that did not fit and said so", totals.truncated),
            ("dns_cache_hits", "Replies from a worker's cache", totals.cache_hits),
            ("dns_cache_misses", "Replies that had to be made", totals.cache_misses),
            ("dns_dropped", "Packets that got no reply", totals.dropped),
            ("dns_forwarded", "Questions handed to upstreams", totals.forwarded),
            ("dns_forward_failures", "Forwarded questions that failed", totals.forward_failures),
            ("dns_tcp_connections", "Streams accepted", totals.tcp_connections),
            ("dns_tcp_refused", "Streams closed at the limit", totals.tcp_refused),
            ("dns_tcp_displaced", "Streams ended for a client with fewer", totals.tcp_displaced),
            ("dns_tcp_silent", "Streams ended since nothing came or went", totals.tcp_silent),
            ("dns_rate_dropped", "Questions beyond the rate limit, dropped", totals.limit_dropped),
            (
                "dns_rate_slipped",
                "Questions beyond the rate limit, sent to TCP",
                totals.limit_slipped,
            ),
        ];
        for (name, help, count) in counters {
            sink.value(&Metric::counter(name, help), number(count));
        }
    }
}
