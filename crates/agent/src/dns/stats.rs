//! The counters of the DNS server: increased where something happens, and added up when they are read.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use dunlin_core::dns::{Rcode, Transport, Written};

/// The counters of one worker, alone on its cache lines so that workers do not slow each other down.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Counters {
    pub(super) udp_queries: AtomicU64,
    pub(super) tcp_queries: AtomicU64,
    rcodes: [AtomicU64; Rcode::ALL.len()],
    truncated: AtomicU64,
    pub(super) cache_hits: AtomicU64,
    pub(super) cache_misses: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) forwarded: AtomicU64,
    pub(super) forward_failures: AtomicU64,
    pub(super) tcp_connections: AtomicU64,
    pub(super) tcp_refused: AtomicU64,
    pub(super) tcp_displaced: AtomicU64,
    pub(super) tcp_silent: AtomicU64,
    pub(super) limit_dropped: AtomicU64,
    pub(super) limit_slipped: AtomicU64,
}

impl Counters {
    pub(super) fn received(&self, transport: Transport) {
        match transport {
            Transport::Udp => add(&self.udp_queries, 1),
            Transport::Tcp => add(&self.tcp_queries, 1),
        }
    }

    pub(super) fn replied(&self, written: Written) {
        if let Some(place) = Rcode::ALL.iter().position(|r| *r == written.rcode) {
            add(&self.rcodes[place], 1);
        }
        if written.truncated {
            add(&self.truncated, 1);
        }
    }
}

pub(super) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Relaxed);
}

/// Counters of all workers and of the TCP side.
#[derive(Debug)]
pub struct DnsStats {
    workers: Box<[Counters]>,
    shared: Counters,
}

/// Sums over all workers since the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DnsTotals {
    /// Datagrams received over UDP.
    pub udp_queries: u64,
    /// Messages received on streams.
    pub tcp_queries: u64,
    /// Replies by code; forwarded ones are not among them.
    pub replies: [(&'static str, u64); Rcode::ALL.len()],
    /// Replies with TC set.
    pub truncated: u64,
    /// Replies from a worker's cache.
    pub cache_hits: u64,
    /// Replies that no cache held, so that they had to be made.
    pub cache_misses: u64,
    /// Packets that got no reply: they held no question, or the network refused the reply.
    pub dropped: u64,
    /// Questions handed to upstreams.
    pub forwarded: u64,
    /// Questions handed to upstreams that got SERVFAIL: no upstream answered, or too many questions were under way.
    pub forward_failures: u64,
    /// Streams accepted.
    pub tcp_connections: u64,
    /// Streams closed at once, at the connection limit.
    pub tcp_refused: u64,
    /// Streams ended at the limit for a client with fewer.
    pub tcp_displaced: u64,
    /// Streams whose client sent or read nothing for too long.
    pub tcp_silent: u64,
    /// Questions beyond the rate limit that got nothing.
    pub limit_dropped: u64,
    /// Questions beyond the rate limit that got an empty reply.
    pub limit_slipped: u64,
}

impl DnsStats {
    #[doc(hidden)]
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| Counters::default()).collect(),
            shared: Counters::default(),
        }
    }

    pub(super) fn workers(&self) -> usize {
        self.workers.len()
    }

    pub(super) fn worker(&self, index: usize) -> &Counters {
        self.workers.get(index).unwrap_or(&self.shared)
    }

    /// The counters of what runs outside of the workers: streams and forwarding.
    pub(super) fn shared(&self) -> &Counters {
        &self.shared
    }

    /// Adds up the counters of all workers and of the TCP side.
    #[must_use]
    pub fn totals(&self) -> DnsTotals {
        let sum = |of: fn(&Counters) -> &AtomicU64| {
            let all = self.workers.iter().chain([&self.shared]);
            all.map(|counters| of(counters).load(Relaxed)).sum::<u64>()
        };
        let mut replies = Rcode::ALL.map(|rcode| (rcode.as_str(), 0));
        for counters in self.workers.iter().chain([&self.shared]) {
            for (total, counter) in replies.iter_mut().zip(&counters.rcodes) {
                total.1 += counter.load(Relaxed);
            }
        }
        DnsTotals {
            udp_queries: sum(|c| &c.udp_queries),
            tcp_queries: sum(|c| &c.tcp_queries),
            replies,
            truncated: sum(|c| &c.truncated),
            cache_hits: sum(|c| &c.cache_hits),
            cache_misses: sum(|c| &c.cache_misses),
            dropped: sum(|c| &c.dropped),
            forwarded: sum(|c| &c.forwarded),
            forward_failures: sum(|c| &c.forward_failures),
            tcp_connections: sum(|c| &c.tcp_connections),
            tcp_refused: sum(|c| &c.tcp_refused),
            tcp_displaced: sum(|c| &c.tcp_displaced),
            tcp_silent: sum(|c| &c.tcp_silent),
            limit_dropped: sum(|c| &c.limit_dropped),
            limit_slipped: sum(|c| &c.limit_slipped),
        }
    }
}
