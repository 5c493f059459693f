//! What Dunlin's own API counts beside calls: encodings of services, open streams.

use std::sync::Arc;

use dunlin_shell::FairLimit;
use dunlin_shell::metrics::{Collect, Metric, Sink, number};

use super::App;
use super::encoded::Encodings;

/// Has the state of the API shown.
pub(super) fn register(app: &App) {
    app.observer.collect(StreamMetrics {
        encodings: Arc::clone(&app.encodings),
        limits: [("watches", &app.watches), ("events", &app.event_streams)]
            .map(|(name, limit)| (name, Arc::clone(limit))),
    });
}

#[derive(Debug)]
struct StreamMetrics {
    encodings: Arc<Encodings>,
    limits: [(&'static str, Arc<FairLimit>); 2],
}

impl Collect for StreamMetrics {
    fn collect(&self, sink: &mut Sink<'_>) {
        let encoded =
            Metric::counter("http_encodings", "Times a service was encoded for lookups or watches");
        sink.value(&encoded, number(self.encodings.encoded()));
        let open = Metric::gauge("http_streams", "Open watches and long polls; readers of events");
        let of = |count: fn(&FairLimit) -> u64| {
            self.limits.each_ref().map(|(name, limit)| ([("kind", *name)], number(count(limit))))
        };
        sink.values(&open, of(|limit| limit.taken() as u64));
        let refused = Metric::counter("http_streams_refused", "Of these, refused at the limit");
        sink.values(&refused, of(FairLimit::refused));
        let help = "Of these, ended at the limit for a client with fewer";
        sink.values(&Metric::counter("http_streams_displaced", help), of(FairLimit::displaced));
    }
}
