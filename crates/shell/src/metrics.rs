//! Metrics in OpenMetrics form: what a process counts, and what it reads when it is asked.
//!
//! Parts that count as they go register their counters ([`Observer::register`]); parts that already know
//! their state implement [`Collect`] and are read at each scrape. Every name begins with `dunlin_` and ends
//! with its unit. Labels are bounded: never an instance id, a key, or anything a client may choose.

mod process;

use std::fmt;
use std::sync::{Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

/// The media type of the text that [`Observer::scrape`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A part of the process that tells its state when it is asked.
///
/// `collect` runs on the thread that answers the scrape: it must be quick and must not wait.
pub trait Collect: fmt::Debug + Send + Sync + 'static {
    /// Writes the state into the sink.
    fn collect(&self, sink: &mut Sink<'_>);
}

/// Whether a value only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// A number that only grows; its name gets the suffix `_total`.
    Counter,
    /// A number that goes up and down.
    Gauge,
}

/// One metric: its name (without `dunlin_`, unit and `_total`) and what it means.
#[derive(Debug, Clone)]
pub struct Metric {
    /// The name, without what is added to it.
    pub name: &'static str,
    /// What it means, in a sentence without a full stop.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: MetricKind,
    /// Its unit, if it is not a plain number.
    pub unit: Option<Unit>,
}

impl Metric {
    /// A plain number that goes up and down.
    #[must_use]
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: MetricKind::Gauge, unit: None }
    }

    /// A plain number that only grows.
    #[must_use]
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: MetricKind::Counter, unit: None }
    }

    /// The same metric with a unit.
    #[must_use]
    pub fn with_unit(self, unit: Unit) -> Self {
        Self { unit: Some(unit), ..self }
    }
}

/// Takes the values of one scrape.
#[derive(Debug)]
pub struct Sink<'a> {
    encoder: DescriptorEncoder<'a>,
    result: fmt::Result,
}

impl Sink<'_> {
    /// Writes the value of a metric without labels.
    pub fn value(&mut self, metric: &Metric, value: f64) {
        self.encode(metric, |one| metric.kind.write(one, value));
    }

    /// Writes a value for each set of labels, e.g. `[([("health", "passing")], 3.0)]`.
    pub fn values<L: EncodeLabelSet>(
        &mut self,
        metric: &Metric,
        values: impl IntoIterator<Item = (L, f64)>,
    ) {
        self.encode(metric, |family| {
            values.into_iter().try_for_each(|(labels, value)| {
                let mut one = family.encode_family(&labels)?;
                metric.kind.write(&mut one, value)
            })
        });
    }

    fn encode(
        &mut self,
        metric: &Metric,
        write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) {
        if self.result.is_ok() {
            let (name, unit) = (metric.name, metric.unit.as_ref());
            let kind = metric.kind.metric_type();
            let encoder = self.encoder.encode_descriptor(name, metric.help, unit, kind);
            self.result = encoder.and_then(|mut encoder| write(&mut encoder));
        }
    }
}

impl MetricKind {
    fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
        }
    }

    fn write(self, encoder: &mut MetricEncoder<'_>, value: f64) -> fmt::Result {
        match self {
            Self::Counter => encoder.encode_counter::<NoLabelSet, _, f64>(&value, None),
            Self::Gauge => encoder.encode_gauge(&value),
        }
    }
}

/// All metrics of one process.
#[derive(Debug)]
pub struct Observer {
    registry: Mutex<Registry>,
}

impl Observer {
    /// The metrics of the process that the kernel knows; parts of the process add theirs.
    #[must_use]
    pub fn new() -> Self {
        let observer = Self { registry: Mutex::new(Registry::with_prefix("dunlin")) };
        observer.collect(process::Process::new());
        observer
    }

    /// Adds a part that is read at each scrape.
    pub fn collect(&self, part: impl Collect) {
        self.lock().register_collector(Box::new(Adapter(part)));
    }

    /// Adds counters, gauges or histograms that their owner updates.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.lock())
    }

    /// The present values of all metrics, as a text of the type [`CONTENT_TYPE`].
    ///
    /// # Errors
    /// When a part gives labels that cannot be written.
    pub fn scrape(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.lock())?;
        Ok(text)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Registry> {
        // The registry is only added to; a panic of a part while encoding leaves it whole.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Observer {
    fn default() -> Self {
        Self::new()
    }
}

/// A count as a metric's value; exact up to 2^53, which no count of ours reaches.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, which no count of ours reaches")]
pub fn number(count: u64) -> f64 {
    count as f64
}

#[derive(Debug)]
struct Adapter<C>(C);

impl<C: Collect> Collector for Adapter<C> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sink = Sink { encoder, result: Ok(()) };
        self.0.collect(&mut sink);
        sink.result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Kettle;

    impl Collect for Kettle {
        fn collect(&self, sink: &mut Sink<'_>) {
            let boiled = Metric::counter("kettle_boiled", "Times it boiled");
            sink.values(&boiled, [([("tea", "green")], 2.0), ([("tea", "black")], 3.0)]);
            let heat = Metric::gauge("kettle_heat", "How hot it is").with_unit(Unit::Celsius);
            sink.value(&heat, 99.5);
        }
    }

    #[test]
    fn a_part_is_read_at_each_scrape() {
        let observer = Observer::new();
        observer.collect(Kettle);
        let text = observer.scrape().unwrap();
        for line in [
            "# TYPE dunlin_kettle_boiled counter",
            "dunlin_kettle_boiled_total{tea=\"green\"} 2.0",
            "dunlin_kettle_boiled_total{tea=\"black\"} 3.0",
            "# UNIT dunlin_kettle_heat_celsius celsius",
            "dunlin_kettle_heat_celsius 99.5",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
