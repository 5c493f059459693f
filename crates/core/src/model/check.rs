//! Checks, by which the agent determines whether an instance works.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::id::{CheckId, InstanceId};
use super::limits::{
    MAX_CHECK_INTERVAL, MAX_CHECK_OUTPUT_OCTETS, MAX_CHECK_TEXT_OCTETS, MAX_CHECK_THRESHOLD,
    MAX_CHECK_TIMEOUT, MIN_CHECK_INTERVAL,
};
use super::time::Timestamp;

/// The result of a check, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CheckStatus {
    /// The instance works.
    Passing,
    /// The instance works, but the check has a complaint.
    Warning,
    /// The instance does not work, or has not been seen to work yet.
    Critical,
}

impl CheckStatus {
    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// The replicated state of a check, which all nodes know. Its encoding, and how it may grow, is described in
/// `replica/rows/check.rs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRow {
    /// The status that holds at present.
    pub status: CheckStatus,
    /// The output of the check, cut to 4 KiB.
    pub output: Arc<str>,
    /// When the status began.
    pub since: Timestamp,
    /// Whether the check has ever been better than critical. Panic mode never serves an instance that has never worked.
    pub has_worked: bool,
}

impl CheckRow {
    const UNPROVEN: &str = "not checked yet";

    /// The state of a check that has not run yet. It is critical, so that answers hold no instance that has not been
    /// seen to work.
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
        &output[..output.floor_char_boundary(MAX_CHECK_OUTPUT_OCTETS)]
    }
}

/// TLS settings of an HTTP or gRPC check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsCheck {
    /// The server name to send (SNI) and to verify; the target's address when absent.
    pub server_name: Option<String>,
    /// Whether the certificate is verified against the system's roots.
    pub verify: bool,
}

/// The status codes that an HTTP check accepts as success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRange(RangeInclusive<u16>);

impl StatusRange {
    /// Parses `200` or `200-399`.
    ///
    /// # Errors
    /// When the text is neither, or not within 100 to 599.
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

/// Writes the form that [`StatusRange::parse`] reads: `200` or `200-399`.
impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.0.start(), self.0.end());
        if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
    }
}

impl Default for StatusRange {
    /// The range of success codes, 200 to 299.
    fn default() -> Self {
        Self(200..=299)
    }
}

/// An HTTP request and the expected response. Redirects are not followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpCheck {
    /// The address to connect to; the instance's own address and port when absent.
    pub target: Option<SocketAddr>,
    /// The method of the request: `GET`, `HEAD`, `POST` …
    pub method: String,
    /// The path and query, with a leading slash.
    pub path: String,
    /// Further headers; `Host` is the target unless given.
    pub headers: Vec<(String, String)>,
    /// The status codes that count as success.
    pub expect_status: StatusRange,
    /// A text that the first 64 KiB of the body must hold.
    pub expect_body: Option<String>,
    /// The TLS settings; the request is sent without TLS when absent.
    pub tls: Option<TlsCheck>,
}

/// What a check does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckKind {
    /// Opens a TCP connection and closes it.
    Tcp {
        /// The address to connect to; the instance's own address and port when absent.
        target: Option<SocketAddr>,
    },
    /// Sends an HTTP request.
    Http(HttpCheck),
    /// Calls `grpc.health.v1.Health/Check`.
    Grpc {
        /// The address to connect to; the instance's own address and port when absent.
        target: Option<SocketAddr>,
        /// The service to ask about; empty for the server as a whole.
        service: String,
        /// The TLS settings; the call is made without TLS when absent.
        tls: Option<TlsCheck>,
    },
    /// Runs a command: exit code 0 is passing, 1 is warning, any other is critical.
    Command {
        /// The program and its arguments; no shell is involved.
        argv: Vec<String>,
    },
    /// Waits for pushed statuses, and is critical when none has been pushed for the TTL.
    Ttl {
        /// How long a pushed status holds.
        ttl: Duration,
    },
    /// Has the health of another instance of the same node.
    Alias {
        /// The instance whose health it is.
        instance: InstanceId,
    },
}

impl CheckKind {
    /// The word for the kind in registrations.
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

    /// Whether the agent runs the check at intervals; TTL and alias checks only wait.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        !matches!(self, Self::Ttl { .. } | Self::Alias { .. })
    }
}

/// A check as its provider defines it. It is local to the node and not replicated.
///
/// Its serde form is stored as JSON within a [`Registration`](super::Registration), where the rule for new fields is
/// stated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckSpec {
    /// The id of the check, unique within the instance.
    pub id: CheckId,
    /// What the check does.
    pub kind: CheckKind,
    /// The time from the start of one run to the next; each is up to a twentieth shorter or longer.
    pub interval: Duration,
    /// The limit of one run.
    pub timeout: Duration,
    /// The number of failures in a row after which the check is critical.
    pub failures_before_critical: u32,
    /// The number of successes in a row after which the check is passing again.
    pub successes_before_passing: u32,
    /// The instance is deregistered after it has been critical for this long.
    pub deregister_after: Option<Duration>,
}

/// Why a check's definition is refused. The caller's input is at fault; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CheckSpecError {
    /// A duration is too short or too long.
    #[error(
        "check {id}: {field} is {}; {} to {} are allowed",
        humantime::format_duration(*found), humantime::format_duration(*least),
        humantime::format_duration(*most)
    )]
    Duration {
        /// The id of the check.
        id: CheckId,
        /// The name of the setting.
        field: &'static str,
        /// The given value.
        found: Duration,
        /// The shortest allowed value.
        least: Duration,
        /// The longest allowed value.
        most: Duration,
    },
    /// A threshold is zero or too large.
    #[error("check {id}: {field} is {found}; 1 to {MAX_CHECK_THRESHOLD} are allowed")]
    Threshold {
        /// The id of the check.
        id: CheckId,
        /// The name of the setting.
        field: &'static str,
        /// The given value.
        found: u32,
    },
    /// The texts of a check are too long.
    #[error(
        "check {id}: its texts have {octets} octets together; at most {MAX_CHECK_TEXT_OCTETS} are allowed"
    )]
    TooMuchText {
        /// The id of the check.
        id: CheckId,
        /// The length of all texts together.
        octets: usize,
    },
    /// A status range is malformed.
    #[error("expect_status {text:?} is neither a status like 200 nor a range like 200-399")]
    BadStatus {
        /// The given text.
        text: String,
    },
    /// A setting that the kind needs is missing or not valid.
    #[error("check {id}: {problem}")]
    BadSetting {
        /// The id of the check.
        id: CheckId,
        /// A description of the fault, with an example of a valid setting.
        problem: String,
    },
}

impl CheckSpec {
    /// The interval when none is given.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
    /// The timeout when none is given.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
    /// The value of `failures_before_critical` when none is given.
    pub const DEFAULT_FAILURES: u32 = 2;
    /// The value of `successes_before_passing` when none is given.
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

    /// The length of all texts of the check in octets.
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
        if octets > MAX_CHECK_TEXT_OCTETS {
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
        let long = "ä".repeat(MAX_CHECK_OUTPUT_OCTETS);
        assert_eq!(CheckRow::cut_output(&long).len(), MAX_CHECK_OUTPUT_OCTETS);
        assert_eq!(CheckRow::cut_output("ok"), "ok");
    }
}
