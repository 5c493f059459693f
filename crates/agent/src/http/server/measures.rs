//! What the API counts: requests by call and outcome, and how long they took.
//!
//! Every counter exists before the first request, one for each call of the routing table, so counting takes no
//! lock and no memory, and no client can invent a label.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::MatchedPath;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Unit;

use super::App;
use super::authorize::ShownDenials;
use super::encoded::Encodings;
use super::problem::Problem;
use crate::observe::{Collect, Metric, Observer, Sink, number};
use crate::shares::Shares;

/// Marks an answer that waited for a change on purpose, so that its time is not taken for slowness.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waited;

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// The label of requests that match no call.
const OTHER: &str = "other";

#[derive(Debug)]
struct Measure {
    by_class: [Counter; CLASSES.len()],
    seconds: Histogram,
}

/// Counters of all calls.
#[derive(Debug)]
pub(super) struct Measures {
    calls: HashMap<String, Measure>,
    other: Measure,
    header_octets: usize,
}

type RequestLabels = [(&'static str, String); 2];
type SecondsLabels = [(&'static str, String); 1];

impl Measures {
    /// Makes the counters of these calls, and has them shown.
    pub(super) fn register<'a>(
        observer: &Observer,
        calls: impl Iterator<Item = &'a String>,
        header_octets: usize,
    ) -> Arc<Self> {
        let requests = Family::<RequestLabels, Counter>::default();
        let seconds = Family::<SecondsLabels, Histogram, fn() -> Histogram>::new_with_constructor(
            // 50 µs to 13 s.
            || Histogram::new(exponential_buckets(0.000_05, 4.0, 10)),
        );
        let measure = |call: &str| {
            let labels = |class: &str| [("call", call.to_owned()), ("status", class.to_owned())];
            // Each guard of the family is dropped before the next is taken: two at once deadlock.
            let by_class = CLASSES.map(|class| {
                let counter = requests.get_or_create(&labels(class));
                counter.clone()
            });
            let histogram = seconds.get_or_create(&[("call", call.to_owned())]);
            Measure { by_class, seconds: histogram.clone() }
        };
        let calls = calls.map(|call| (call.clone(), measure(call))).collect();
        let other = measure(OTHER);
        observer.register(|registry| {
            registry.register("http_requests", "Requests answered, by call and status", requests);
            registry.register_with_unit(
                "http_request_duration",
                "Time to an answer's head; waiting long polls are left out",
                Unit::Seconds,
                seconds,
            );
        });
        Arc::new(Self { calls, other, header_octets })
    }

    fn of(&self, call: Option<&MatchedPath>) -> &Measure {
        call.and_then(|call| self.calls.get(call.as_str())).unwrap_or(&self.other)
    }

    /// Counts an answer, and the time since its request came.
    pub(super) fn count(&self, call: Option<&MatchedPath>, since: Instant, response: &Response) {
        let measure = self.of(call);
        let class = usize::from(response.status().as_u16() / 100).clamp(1, CLASSES.len());
        measure.by_class[class - 1].inc();
        if response.extensions().get::<Waited>().is_none() {
            measure.seconds.observe(since.elapsed().as_secs_f64());
        }
    }
}

/// Refuses heads that are too large.
pub(super) fn refusal(measures: &Measures, headers: &HeaderMap) -> Option<Response> {
    let (octets, most) = (octets(headers), measures.header_octets);
    (octets > most).then(|| {
        let error = format!("headers: {octets} octets; at most {most}");
        Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, error).into_response()
    })
}

fn octets(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

/// Has the state of the API shown.
pub(super) fn collect(app: &App) {
    app.observer.collect(ShownDenials(Arc::clone(&app.denials)));
    app.observer.collect(Shown {
        encodings: Arc::clone(&app.encodings),
        streams: [("watches", &app.watches), ("events", &app.event_streams)]
            .map(|(name, shares)| (name, Arc::clone(shares))),
    });
}

#[derive(Debug)]
struct Shown {
    encodings: Arc<Encodings>,
    streams: [(&'static str, Arc<Shares>); 2],
}

impl Collect for Shown {
    fn collect(&self, sink: &mut Sink<'_>) {
        let encoded =
            Metric::counter("http_encodings", "Times a service was encoded for lookups or watches");
        sink.value(&encoded, number(self.encodings.encoded()));
        let open = Metric::gauge("http_streams", "Open watches and long polls; readers of events");
        let of = |count: fn(&Shares) -> u64| {
            self.streams.each_ref().map(|(name, s)| ([("kind", *name)], number(count(s))))
        };
        sink.values(&open, of(|s| s.taken() as u64));
        let refused = Metric::counter("http_streams_refused", "Of these, refused at the limit");
        sink.values(&refused, of(Shares::refused));
        let help = "Of these, ended at the limit for a client with fewer";
        sink.values(&Metric::counter("http_streams_displaced", help), of(Shares::displaced));
    }
}
