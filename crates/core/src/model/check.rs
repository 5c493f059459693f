//! A check: what the agent does to know whether an instance works.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::id::{CheckId, InstanceId};
use super::limits::{
    CHECK_OUTPUT_OCTETS, CHECK_TEXT_OCTETS, MAX_CHECK_INTERVAL, MAX_CHECK_THRESHOLD,
    MAX_CHECK_TIMEOUT, MIN_CHECK_INTERVAL,
};
use super::time::Timestamp;

/// What a check last said, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CheckStatus {
    /// Works.
    Passing,
    /// Works, with a complaint.
    Warning,
    /// Does not work, or has not been seen to work yet.
    Critical,
}

impl CheckStatus {
    /// The word users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// The replicated state of a check: what other nodes know of it. How it looks as octets, and how it may grow, is said in
/// `replica/rows/check.rs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRow {
    /// The last status that held.
    pub status: CheckStatus,
    /// What the check said, cut to 4 KiB.
    pub output: Arc<str>,
    /// When the status began.
    pub since: Timestamp,
    /// Whether it has ever been better than critical. What never worked is never served in panic mode.
    pub has_worked: bool,
}

impl CheckRow {
    const UNPROVEN: &str = "not checked yet";

    /// The state of a check that has not run yet: critical, so that nothing unproven is in answers.
    #[must_use]
    pub fn unproven(since: Timestamp) -> Self {
        let output = Self::UNPROVEN.into();
        Self { status: CheckStatus::Critical, output, since, has_worked: false }
    }

    /// Whether the check has not run yet.
    #[must_use]
    pub fn is_unproven(&self) -> bool {
        !self.has_worked && *self.output == *Self::UNPROVEN
    }

    /// Cuts a check's output to its limit, at a character boundary.
    #[must_use]
    pub fn cut_output(output: &str) -> &str {
        &output[..output.floor_char_boundary(CHECK_OUTPUT_OCTETS)]
    }
}

/// TLS settings of an HTTP or gRPC check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsCheck {
    /// The name to send (SNI) and to verify; the target's address when absent.
    pub server_name: Option<String>,
    /// Whether the certificate is verified against the system's roots.
    pub verify: bool,
}

/// The status codes an HTTP check takes for success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRange(RangeInclusive<u16>);

impl StatusRange {
    /// Parses `200` or `200-399`.
    ///
    /// # Errors
    /// When it is neither, or not within 100 to 599.
    pub fn parse(text: &str) -> Result<Self, CheckSpecError> {
        let bad = || CheckSpecError::BadStatus { text: text.to_owned() };
        let number = |part: &str| part.trim().parse::<u16>().map_err(|_| bad());
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(text)?, number(text)?),
        };
        if first > last || first < 100 || last > 599 {
            return Err(bad());
        }
        Ok(Self(first..=last))
    }

    /// Whether a status code is a success.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0.contains(&status)
    }
}

/// Writes what [`StatusRange::parse`] reads: `200` or `200-399`.
impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.0.start(), self.0.end());
        if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
    }
}

impl Default for StatusRange {
    /// 200 to 299.
    fn default() -> Self {
        Self(200..=299)
    }
}

/// An HTTP request and what to expect of its answer. Redirects are not followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpCheck {
    /// Where to connect; the instance's own address and port when absent.
    pub target: Option<SocketAddr>,
    /// `GET`, `HEAD`, `POST` …
    pub method: String,
    /// Path and query, with a leading slash.
    pub path: String,
    /// Further headers; `Host` is the target unless given.
    pub headers: Vec<(String, String)>,
    /// Which statuses are success.
    pub expect_status: StatusRange,
    /// Text that the first 64 KiB of the body must hold.
    pub expect_body: Option<String>,
    /// Speak TLS.
    pub tls: Option<TlsCheck>,
}

/// What a check does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckKind {
    /// Connects, then closes. The target is the instance's own unless given.
    Tcp {
        /// Where to connect.
        target: Option<SocketAddr>,
    },
    /// Sends an HTTP request.
    Http(HttpCheck),
    /// Asks `grpc.health.v1.Health/Check`.
    Grpc {
        /// Where to connect.
        target: Option<SocketAddr>,
        /// The service to ask about; empty for the server as a whole.
        service: String,
        /// Speak TLS.
        tls: Option<TlsCheck>,
    },
    /// Runs a command: exit 0 is passing, 1 warning, anything else critical.
    Command {
        /// Program and arguments; no shell is involved.
        argv: Vec<String>,
    },
    /// Waits to be told; critical when not told for this long.
    Ttl {
        /// How long a pushed status holds.
        ttl: Duration,
    },
    /// Has the health of another instance of the same node.
    Alias {
        /// Which one.
        instance: InstanceId,
    },
}

impl CheckKind {
    /// The word in registrations.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Tcp { .. } => "tcp",
            Self::Http(_) => "http",
            Self::Grpc { .. } => "grpc",
            Self::Command { .. } => "command",
            Self::Ttl { .. } => "ttl",
            Self::Alias { .. } => "alias",
        }
    }

    /// Whether the agent has to do something at intervals; TTL and alias checks only wait.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        !matches!(self, Self::Ttl { .. } | Self::Alias { .. })
    }
}

/// A check as its provider wants it: local to the node, not replicated.
///
/// Serde's form of it is stored as JSON within a [`Registration`](super::Registration), where the rule for new fields
/// is stated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckSpec {
    /// Unique within the instance.
    pub id: CheckId,
    /// What to do.
    pub kind: CheckKind,
    /// Time from one start to the next, up to a twentieth shorter or longer.
    pub interval: Duration,
    /// How long one run may take.
    pub timeout: Duration,
    /// Failures in a row before critical.
    pub failures_before_critical: u32,
    /// Successes in a row before passing again.
    pub successes_before_passing: u32,
    /// Deregister the instance after it has been critical for this long.
    pub deregister_after: Option<Duration>,
}

/// Why a check's definition is not taken. The caller's input is at fault; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CheckSpecError {
    /// The interval is too short or too long.
    #[error(
        "check {id}: {field} is {}; {} to {} are allowed",
        humantime::format_duration(*found), humantime::format_duration(*least),
        humantime::format_duration(*most)
    )]
    Duration {
        /// The check.
        id: CheckId,
        /// Which setting.
        field: &'static str,
        /// What it says.
        found: Duration,
        /// The least allowed.
        least: Duration,
        /// The most allowed.
        most: Duration,
    },
    /// A threshold is zero or too large.
    #[error("check {id}: {field} is {found}; 1 to {MAX_CHECK_THRESHOLD} are allowed")]
    Threshold {
        /// The check.
        id: CheckId,
        /// Which setting.
        field: &'static str,
        /// What it says.
        found: u32,
    },
    /// Texts of a check are too long.
    #[error(
        "check {id}: its texts have {octets} octets together; at most {CHECK_TEXT_OCTETS} are allowed"
    )]
    TooMuchText {
        /// The check.
        id: CheckId,
        /// How many.
        octets: usize,
    },
    /// A status range that cannot be read.
    #[error("expect_status {text:?} is neither a status like 200 nor a range like 200-399")]
    BadStatus {
        /// The text.
        text: String,
    },
    /// A setting that the kind needs is missing or cannot be.
    #[error("check {id}: {problem}")]
    BadSetting {
        /// The check.
        id: CheckId,
        /// What is wrong and what would be right.
        problem: String,
    },
}

impl CheckSpec {
    /// The interval when none is given.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
    /// The timeout when none is given.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
    /// The failures before critical when none are given.
    pub const DEFAULT_FAILURES: u32 = 2;
    /// The successes before passing when none are given.
    pub const DEFAULT_SUCCESSES: u32 = 1;

    /// A check of this kind with default timing.
    #[must_use]
    pub fn with_defaults(id: CheckId, kind: CheckKind) -> Self {
        Self {
            id,
            kind,
            interval: Self::DEFAULT_INTERVAL,
            timeout: Self::DEFAULT_TIMEOUT,
            failures_before_critical: Self::DEFAULT_FAILURES,
            successes_before_passing: Self::DEFAULT_SUCCESSES,
            deregister_after: None,
        }
    }

    /// Checks every setting against its limits.
    ///
    /// # Errors
    /// The first setting that is out of bounds.
    pub fn validate(&self) -> Result<(), CheckSpecError> {
        self.validate_timing()?;
        self.validate_texts()?;
        let bad = |problem: &str| {
            Err(CheckSpecError::BadSetting { id: self.id.clone(), problem: problem.to_owned() })
        };
        if let CheckKind::Http(http) = &self.kind
            && !http.path.starts_with('/')
        {
            return bad("path must begin with '/', e.g. path = \"/healthz\"");
        }
        if let CheckKind::Command { argv } = &self.kind {
            if argv.first().is_none_or(String::is_empty) {
                return bad("command needs a program, e.g. command = [\"/usr/bin/pg_isready\"]");
            }
            if argv.iter().any(|a| a.contains('\0')) {
                return bad("command holds a NUL octet");
            }
        }
        Ok(())
    }

    fn validate_timing(&self) -> Result<(), CheckSpecError> {
        let within = |field, found, least, most| {
            if (least..=most).contains(&found) {
                return Ok(());
            }
            Err(CheckSpecError::Duration { id: self.id.clone(), field, found, least, most })
        };
        within("interval", self.interval, MIN_CHECK_INTERVAL, MAX_CHECK_INTERVAL)?;
        within("timeout", self.timeout, Duration::from_millis(1), MAX_CHECK_TIMEOUT)?;
        if let CheckKind::Ttl { ttl } = self.kind {
            within("ttl", ttl, MIN_CHECK_INTERVAL, MAX_CHECK_INTERVAL)?;
        }
        if let Some(after) = self.deregister_after {
            within("deregister_after", after, Duration::from_secs(1), 7 * MAX_CHECK_INTERVAL)?;
        }
        let thresholds = [
            ("failures_before_critical", self.failures_before_critical),
            ("successes_before_passing", self.successes_before_passing),
        ];
        for (field, found) in thresholds {
            if !(1..=MAX_CHECK_THRESHOLD).contains(&found) {
                return Err(CheckSpecError::Threshold { id: self.id.clone(), field, found });
            }
        }
        Ok(())
    }

    /// Octets of its texts together.
    #[must_use]
    pub fn text_octets(&self) -> usize {
        match &self.kind {
            CheckKind::Http(http) => {
                let headers: usize = http.headers.iter().map(|(k, v)| k.len() + v.len()).sum();
                let body = http.expect_body.as_ref().map_or(0, String::len);
                http.path.len() + http.method.len() + headers + body
            }
            CheckKind::Grpc { service, .. } => service.len(),
            CheckKind::Command { argv } => argv.iter().map(String::len).sum(),
            CheckKind::Tcp { .. } | CheckKind::Ttl { .. } | CheckKind::Alias { .. } => 0,
        }
    }

    fn validate_texts(&self) -> Result<(), CheckSpecError> {
        let octets = self.text_octets();
        if octets > CHECK_TEXT_OCTETS {
            return Err(CheckSpecError::TooMuchText { id: self.id.clone(), octets });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp() -> CheckSpec {
        let id = CheckId::parse("tcp").unwrap();
        CheckSpec::with_defaults(id, CheckKind::Tcp { target: None })
    }

    #[test]
    fn intervals_outside_their_bounds_are_refused_with_the_bounds() {
        assert_eq!(tcp().validate(), Ok(()));
        for millis in [0, 1, 99, 90_000_000] {
            let spec = CheckSpec { interval: Duration::from_millis(millis), ..tcp() };
            let error = spec.validate().unwrap_err().to_string();
            assert!(error.contains("100ms to 1day"), "{error}");
        }
    }

    #[test]
    fn thresholds_are_at_least_one() {
        let spec = CheckSpec { failures_before_critical: 0, ..tcp() };
        assert!(spec.validate().unwrap_err().to_string().contains("failures_before_critical"));
    }

    #[test]
    fn a_status_range_is_one_code_or_two() {
        assert!(StatusRange::parse("200-399").unwrap().contains(302));
        assert!(!StatusRange::parse("204").unwrap().contains(200));
        for text in ["200-399", "204"] {
            assert_eq!(StatusRange::parse(text).unwrap().to_string(), text);
        }
        for bad in ["", "abc", "300-200", "99", "200-600", "-"] {
            assert!(StatusRange::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn output_is_cut_at_a_character() {
        let long = "ä".repeat(CHECK_OUTPUT_OCTETS);
        assert_eq!(CheckRow::cut_output(&long).len(), CHECK_OUTPUT_OCTETS);
        assert_eq!(CheckRow::cut_output("ok"), "ok");
    }
}
