//! A guard against DNS rebinding: a page in a browser on this host must not speak to the agent.
//!
//! A hostile site can let its own name resolve to 127.0.0.1 and then talk to whatever listens there as if it
//! were itself, with the site's name in `Host`. While the API listens on loopback alone, only names that no
//! stranger can own are accepted: addresses, single labels such as `localhost`, and names in the agent's domain.
//! An API that listens beyond loopback is reached by names that only its operator knows.

use std::net::{IpAddr, SocketAddr};

use axum::extract::Request;
use axum::http::header;
use axum::http::uri::Authority;

use super::{Reason, Refusal};

/// The names by which this host is asked.
#[derive(Debug, Clone)]
pub(in crate::http) struct OwnNames {
    domain: String,
    is_on_loopback: bool,
}

impl OwnNames {
    /// The names of an agent whose API listens here and that answers for this domain.
    pub(in crate::http) fn new(domain: String, listen: SocketAddr) -> Self {
        Self { domain, is_on_loopback: listen.ip().is_loopback() }
    }

    /// Refuses a `Host` that a stranger may own.
    pub(super) fn refusal(&self, request: &Request) -> Option<Refusal> {
        let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let authority = request.uri().authority().cloned();
        let authority = authority.or_else(|| named.and_then(|host| host.parse::<Authority>().ok()));
        let is_trusted = authority.is_none_or(|a| is_own(a.host(), &self.domain));
        if is_trusted || !self.is_on_loopback {
            return None;
        }
        let error = "the API on loopback does not answer to this host name";
        let hint =
            "ask for 127.0.0.1 or localhost; pages of other sites may not speak to the agent";
        Some(Refusal::new(Reason::ForeignHost, error, hint))
    }
}

/// Whether no stranger can make this name resolve to an address of the stranger's choice.
fn is_own(host: &str, domain: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok()
        || !host.contains('.')
        || host.strip_suffix(domain).is_some_and(|front| front.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_no_stranger_can_own_are_accepted() {
        for own in
            ["127.0.0.1", "[::1]", "localhost", "LOCALHOST.", "web-1", "n1.node.dunlin.internal"]
        {
            assert!(is_own(own, "dunlin.internal"), "{own}");
        }
        for other in [
            "evil.example",
            "127.0.0.1.evil.example",
            "xdunlin.internal",
            "dunlin.internal.evil.example",
        ] {
            assert!(!is_own(other, "dunlin.internal"), "{other}");
        }
    }
}
