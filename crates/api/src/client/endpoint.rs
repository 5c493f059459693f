//! Where an agent listens.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// An agent's local socket or the address of its API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// `host:port`, plain HTTP.
    Http(String),
    /// `host:port`, HTTP over TLS.
    Https(String),
}

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is neither the path of a socket nor an address like http://127.0.0.1:5380")]
pub struct EndpointError {
    text: String,
}

impl Endpoint {
    /// Parses `http://host:port`, `https://host:port`, `unix:PATH`, or a path with a slash in it.
    ///
    /// # Errors
    /// When it is none of these, or has a path behind the port.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let bad = || EndpointError { text: text.to_owned() };
        let (https, http) = (text.strip_prefix("https://"), text.strip_prefix("http://"));
        if let Some(rest) = https.or(http) {
            let authority = rest.strip_suffix('/').unwrap_or(rest);
            let (host, port) = authority.rsplit_once(':').ok_or_else(bad)?;
            let strange = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '@');
            let is_valid = !host.is_empty()
                && !authority.contains(strange)
                && port.parse::<u16>().is_ok_and(|p| p > 0);
            let of = if https.is_some() { Self::Https } else { Self::Http };
            return is_valid.then(|| of(authority.to_owned())).ok_or_else(bad);
        }
        let path = text.strip_prefix("unix:").unwrap_or(text);
        if path.is_empty() || !path.contains('/') || path.contains("://") {
            return Err(bad());
        }
        Ok(Self::Unix(Path::new(path).to_owned()))
    }

    /// What to send as `Host`.
    pub(super) fn host(&self) -> &str {
        match self {
            Self::Unix(_) => "localhost",
            Self::Http(authority) | Self::Https(authority) => authority,
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        Self::parse(text)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "socket {}", path.display()),
            Self::Http(authority) => write!(f, "http://{authority}"),
            Self::Https(authority) => write!(f, "https://{authority}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    #[test]
    fn an_endpoint_is_a_path_or_an_address() {
        for (text, shown) in [
            ("/run/a.sock", "socket /run/a.sock"),
            ("./a.sock", "socket ./a.sock"),
            ("unix:/run/a.sock", "socket /run/a.sock"),
            ("http://127.0.0.1:5380", "http://127.0.0.1:5380"),
            ("http://[::1]:1/", "http://[::1]:1"),
            ("https://web-1:5380", "https://web-1:5380"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "agent",
            "https://a",
            "ftp://a:1",
            "http://a",
            "http://:1",
            "http://a:0",
            "http://a:1/api",
            "http://a b:1",
            "unix:",
        ] {
            assert!(Endpoint::parse(bad).is_err(), "{bad:?}");
        }
    }
}
