//! What is counted of calls: requests by call and outcome, and how long they took.
//!
//! Every counter exists before the first request, one for each call that is routed, so counting takes no
//! lock and no memory, and no client can invent a label.

use std::time::Instant;

use axum::response::Response;
use dunlin_shell::metrics::Observer;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Unit;

/// Marks an answer that waited for a change on purpose, so that its time is not taken for slowness.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct Waited;

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The counters of the calls of one name.
#[derive(Debug)]
pub(super) struct Measure {
    by_class: [Counter; CLASSES.len()],
    seconds: Histogram,
}

/// Makes the counters of calls.
#[derive(Debug)]
pub(super) struct Measures {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<SecondsLabels, Histogram, fn() -> Histogram>,
}

type RequestLabels = [(&'static str, String); 2];
type SecondsLabels = [(&'static str, String); 1];

impl Measures {
    /// Has the counters shown.
    pub(super) fn register(observer: &Observer) -> Self {
        let requests = Family::default();
        let seconds = Family::<_, _, fn() -> Histogram>::new_with_constructor(
            // 50 µs to 13 s.
            || Histogram::new(exponential_buckets(0.000_05, 4.0, 10)),
        );
        let measures = Self { requests, seconds };
        let (requests, seconds) = (measures.requests.clone(), measures.seconds.clone());
        observer.register(|registry| {
            registry.register("http_requests", "Requests answered, by call and status", requests);
            registry.register_with_unit(
                "http_request_duration",
                "Time to an answer's head; waiting long polls are left out",
                Unit::Seconds,
                seconds,
            );
        });
        measures
    }

    /// The counters of the calls of this name.
    pub(super) fn of(&self, call: &str) -> Measure {
        let labels = |class: &str| [("call", call.to_owned()), ("status", class.to_owned())];
        // Each guard of the family is dropped before the next is taken: two at once deadlock.
        let by_class = CLASSES.map(|class| {
            let counter = self.requests.get_or_create(&labels(class));
            counter.clone()
        });
        let histogram = self.seconds.get_or_create(&[("call", call.to_owned())]);
        Measure { by_class, seconds: histogram.clone() }
    }
}

impl Measure {
    /// Counts an answer, and the time since its request came.
    pub(super) fn count(&self, since: Instant, response: &Response) {
        let class = usize::from(response.status().as_u16() / 100).clamp(1, CLASSES.len());
        self.by_class[class - 1].inc();
        if response.extensions().get::<Waited>().is_none() {
            self.seconds.observe(since.elapsed().as_secs_f64());
        }
    }
}
