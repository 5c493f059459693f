//! The number of connections that there may be, and that there are.

use std::sync::Arc;

use super::shed::{Shed, Sheds};
use crate::metrics::{Collect, Metric, Observer, Sink, number};
use crate::{FairLimit, Origin, Slot};

/// How many connections a server takes.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionLimits {
    /// Open connections over TCP, shared fairly among clients.
    pub max_tcp: usize,
    /// The connections over TCP that one client may have.
    pub max_tcp_per_client: usize,
    /// Open connections on the Unix socket, counted apart so that the network cannot lock out its host.
    pub max_local: usize,
}

/// The names under which connections are counted.
#[derive(Debug)]
pub struct AdmissionMetrics {
    /// Open connections, by transport.
    pub open: Metric,
    /// Connections that were refused at the limit, by transport.
    pub refused: Metric,
    /// Connections that the server ended, by reason.
    pub shed: Metric,
}

/// Admits connections up to a limit that clients share.
#[derive(Debug)]
pub struct Admission {
    tcp: Arc<FairLimit>,
    local: Arc<FairLimit>,
    sheds: Sheds,
    metrics: AdmissionMetrics,
}

impl Admission {
    /// Admits connections within these limits, and shows their numbers in the metrics.
    #[must_use]
    pub fn register(
        observer: &Observer,
        limits: AdmissionLimits,
        metrics: AdmissionMetrics,
    ) -> Arc<Self> {
        let tcp = FairLimit::with_client_limit(limits.max_tcp, limits.max_tcp_per_client);
        let local = FairLimit::new(limits.max_local);
        let admission = Arc::new(Self { tcp, local, sheds: Sheds::default(), metrics });
        observer.collect(Arc::clone(&admission));
        admission
    }

    /// The slot of a new connection; `None` when there is none for its client.
    pub(super) fn admit(&self, origin: Origin) -> Option<Slot> {
        let limit = match origin {
            Origin::Remote(_) => &self.tcp,
            Origin::Local(_) => &self.local,
        };
        limit.take(origin.client())
    }

    pub(super) fn count(&self, shed: Shed) {
        self.sheds.count(shed);
    }
}

impl Collect for Arc<Admission> {
    fn collect(&self, sink: &mut Sink<'_>) {
        let Admission { tcp, local, sheds, metrics } = &**self;
        let of = |count: fn(&FairLimit) -> u64| {
            [("tcp", tcp), ("unix", local)]
                .map(|(name, limit)| ([("transport", name)], number(count(limit))))
        };
        sheds.collect(&metrics.shed, sink);
        sink.values(&metrics.open, of(|limit| limit.taken() as u64));
        sink.values(&metrics.refused, of(FairLimit::refused));
    }
}
