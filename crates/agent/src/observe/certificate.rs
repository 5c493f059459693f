//! The time for which the certificate for other agents is still valid.

use std::sync::Arc;
use std::time::SystemTime;

use dunlin_shell::metrics::{Collect, Metric, Sink};
use prometheus_client::registry::Unit;

use crate::net::tls::SharedCredentials;

/// Shows the time until the certificate in use ends.
#[derive(Debug)]
pub struct Certificate {
    credentials: Arc<SharedCredentials>,
}

impl Certificate {
    /// Shows the certificate of these credentials.
    #[must_use]
    pub fn new(credentials: Arc<SharedCredentials>) -> Self {
        Self { credentials }
    }
}

impl Collect for Certificate {
    fn collect(&self, sink: &mut Sink<'_>) {
        let left = match self.credentials.current().not_after().duration_since(SystemTime::now()) {
            Ok(left) => left.as_secs_f64(),
            Err(over) => -over.duration().as_secs_f64(),
        };
        let help = "Time until the certificate for other agents ends, negative when it has";
        let metric = Metric::gauge("certificate_expiry", help);
        sink.value(&metric.with_unit(Unit::Seconds), left);
    }
}
