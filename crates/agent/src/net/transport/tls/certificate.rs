//! What a certificate says, and why one is not taken.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dunlin_core::model::{NodeName, Timestamp, ZoneName};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

/// The DNS name that every agent's certificate bears beside its node. A client asks every server for it, since TLS
/// libraries want a name; it tells no agent from another.
pub const SERVER_NAME: &str = "agent.dunlin";

const SCHEME: &str = "dunlin://";

/// How long before its end a certificate is announced to end.
const WARN_BEFORE: Duration = Duration::from_secs(30 * DAY);
const DAY: u64 = 24 * 3600;

/// The node at the other end of a stream, by a certificate that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The name of the node.
    pub node: NodeName,
    /// The zone of the node.
    pub zone: ZoneName,
}

/// The form in which certificates hold it: `dunlin://ZONE/NODE`.
impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.zone, self.node)
    }
}

impl PeerIdentity {
    fn parse(uri: &str) -> Option<Self> {
        let (zone, node) = uri.strip_prefix(SCHEME)?.split_once('/')?;
        Some(Self { node: NodeName::parse(node).ok()?, zone: ZoneName::parse(zone).ok()? })
    }
}

/// Why a certificate is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Reason {
    /// It cannot be read.
    #[error("it cannot be read")]
    Unreadable,
    /// No authority we know has signed it.
    #[error("none of our authorities signed it, its issuer is {issuer}")]
    OtherAuthority {
        /// The authority that is said to have signed it.
        issuer: String,
    },
    /// It has expired.
    #[error("it expired on {on}")]
    Expired {
        /// The last moment at which it was valid.
        on: Timestamp,
    },
    /// It is not valid yet.
    #[error("it is valid from {from} on only; is the clock right?")]
    NotYetValid {
        /// The first moment at which it is valid.
        from: Timestamp,
    },
    /// It names no node: the authority signed it for another purpose.
    #[error("it names no node; a certificate of `dunlin tls cert create` does")]
    NoName,
    /// It names several nodes, so it could pass for each of them.
    #[error("it names several nodes; one is allowed")]
    SeveralNames,
    /// The name in it is not the name of a node.
    #[error("{uri:?} is not dunlin://ZONE/NODE")]
    BadName {
        /// The name in it.
        uri: String,
    },
    /// Another node was expected.
    #[error("node {expected} was expected")]
    OtherNode {
        /// The node that was expected.
        expected: NodeName,
    },
    /// Any other reason, in the TLS library's words.
    #[error("{0}")]
    Other(String),
}

/// What a certificate says, before anything about it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The node that the certificate names, or why it names none.
    pub identity: Result<PeerIdentity, Reason>,
    /// The subject, e.g. `CN=web-1`.
    pub subject: String,
    /// The authority that is said to have signed it, e.g. `CN=dunlin`.
    pub issuer: String,
    /// The first moment at which it is valid.
    pub not_before: SystemTime,
    /// The last moment at which it is valid.
    pub not_after: SystemTime,
    /// Whether it may sign other certificates.
    pub is_authority: bool,
}

impl Certificate {
    /// Reads a certificate from its DER form; `None` if it is not one.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        Some(Self {
            identity: identity(&parsed),
            subject: printable(&parsed.subject().to_string()),
            issuer: printable(&parsed.issuer().to_string()),
            not_before: time(&parsed.validity().not_before),
            not_after: time(&parsed.validity().not_after),
            is_authority: parsed.is_ca(),
        })
    }

    /// Reads the first certificate of a text in PEM form; `None` if there is none.
    #[must_use]
    pub fn read_pem(text: &[u8]) -> Option<Self> {
        Self::read(&CertificateDer::from_pem_slice(text).ok()?)
    }

    /// The time until it ends; zero when it has.
    #[must_use]
    pub fn left(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }

    /// Whether it is valid at a time, and if not, why.
    ///
    /// # Errors
    /// When it is not valid yet, or has expired.
    pub fn check_time(&self, now: SystemTime) -> Result<(), Reason> {
        if now < self.not_before {
            return Err(Reason::NotYetValid { from: Timestamp::from_system(self.not_before) });
        }
        if now > self.not_after {
            return Err(Reason::Expired { on: Timestamp::from_system(self.not_after) });
        }
        Ok(())
    }
}

/// The form in which errors name it: `CN=web-1 (dunlin://eu1/web-1)`.
impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = if self.subject.is_empty() { "without a subject" } else { &self.subject };
        f.write_str(subject)?;
        self.identity.as_ref().map_or(Ok(()), |identity| write!(f, " ({identity})"))
    }
}

/// Anybody may choose the names in a certificate, so long ones are cut and characters that steer a terminal replaced.
fn printable(name: &str) -> String {
    name.chars().take(200).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn time(time: &ASN1Time) -> SystemTime {
    let seconds = time.timestamp();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(UNIX_EPOCH)
}

fn identity(certificate: &X509Certificate<'_>) -> Result<PeerIdentity, Reason> {
    let names = certificate.subject_alternative_name().map_err(|_| Reason::NoName)?;
    let names = names.map(|e| e.value.general_names.as_slice()).unwrap_or_default();
    let uri = |name: &GeneralName<'_>| {
        let GeneralName::URI(uri) = name else { return None };
        uri.starts_with(SCHEME).then(|| (*uri).to_owned())
    };
    let ours: Vec<String> = names.iter().filter_map(uri).collect();
    match &ours[..] {
        [] => Err(Reason::NoName),
        [one] => PeerIdentity::parse(one).ok_or_else(|| Reason::BadName { uri: printable(one) }),
        [_, _, ..] => Err(Reason::SeveralNames),
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
