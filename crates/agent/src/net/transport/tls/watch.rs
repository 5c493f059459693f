//! Keeps the credentials up to date: takes new files, and warns in time before the certificate ends.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use dunlin_core::model::Timestamp;
use dunlin_shell::WatchedFiles;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::SharedCredentials;

/// How long before its end a certificate is announced to end.
const WARN_BEFORE: Duration = Duration::from_secs(30 * DAY);
/// How often the log repeats the announcement.
const WARN_INTERVAL: Duration = Duration::from_secs(DAY);
const DAY: u64 = 24 * 3600;

/// Takes new files as they come, until the token is cancelled. `report` is told what is wrong with the certificate
/// whenever that changes; `None` says that nothing is wrong.
pub async fn watch(
    credentials: Arc<SharedCredentials>,
    report: impl Fn(Option<String>) + Send,
    stop: CancellationToken,
) {
    let files = credentials.files();
    let mut watched =
        WatchedFiles::new(vec![files.ca.clone(), files.cert.clone(), files.key.clone()]);
    let mut reporter = Reporter { report, told: None, warned: None };
    if let Some(exposed) = credentials.current().exposed_key() {
        warn!(exposed, "the key of the cluster's certificate is not secret");
    }
    loop {
        watched.watch();
        let reading = Arc::clone(&credentials);
        let read = tokio::task::spawn_blocking(move || reading.reload());
        let result = match read.await {
            Ok(result) => result.map_err(|e| e.to_string()),
            Err(panic) => Err(panic.to_string()),
        };
        reporter.tell(&credentials, result);
        if !watched.changed(&stop).await {
            return;
        }
    }
}

/// Remembers what was reported last, so that everything is reported once.
struct Reporter<R> {
    report: R,
    told: Option<String>,
    warned: Option<Instant>,
}

impl<R: Fn(Option<String>)> Reporter<R> {
    fn tell(&mut self, credentials: &SharedCredentials, result: Result<bool, String>) {
        let current = credentials.current();
        if result == Ok(true) {
            let not_after = Timestamp::from_system(current.not_after());
            info!(certificate = %current.certificate(), %not_after, "certificate renewed");
        }
        let ending = ending(&current.certificate().not_after, SystemTime::now());
        let is_bad = result.is_err();
        let problem = match result {
            Err(error) => Some(format!("{error}; the one from before stays in use")),
            Ok(_) => match current.check_time(SystemTime::now()) {
                Err(error) if ending.is_none() => Some(error.to_string()),
                Ok(()) | Err(_) => ending,
            },
        };
        let is_news = self.told != problem;
        // The days left change the text at each midnight; that alone is no news for the log.
        let is_due = self.warned.is_none_or(|at| at.elapsed() >= WARN_INTERVAL);
        if let Some(problem) = problem.as_ref().filter(|_| is_due || (is_news && is_bad)) {
            warn!(problem, "certificate");
            self.warned = Some(Instant::now());
        }
        if problem.is_none() {
            self.warned = None;
        }
        if is_news {
            (self.report)(problem.clone());
            self.told = problem;
        }
    }
}

/// A warning for people about the end of a certificate, from 30 days before it on.
pub(crate) fn ending(not_after: &SystemTime, now: SystemTime) -> Option<String> {
    let on = Timestamp::from_system(*not_after).to_string();
    let mend = "make a new one with `dunlin tls cert create`";
    match not_after.duration_since(now) {
        Ok(left) if left > WARN_BEFORE => None,
        Ok(left) => {
            let days = left.as_secs() / DAY;
            Some(format!("expires in {days} days, on {on}; {mend}"))
        }
        Err(_) => Some(format!("expired on {on}, others refuse it; {mend}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_announced_thirty_days_before() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_230_000);
        let day = Duration::from_secs(DAY);
        assert_eq!(ending(&(now + 31 * day), now), None);
        let soon = ending(&(now + 29 * day), now).unwrap();
        assert!(soon.starts_with("expires in 29 days, on 2026-12-20T"), "{soon}");
        let over = ending(&(now - day), now).unwrap();
        assert!(over.starts_with("expired on 2026-11-20T"), "{over}");
    }
}
