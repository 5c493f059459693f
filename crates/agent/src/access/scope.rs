//! The scopes of tokens: what a token allows its owner.

use std::fmt;

use dunlin_core::model::ServiceName;
use thiserror::Error;

/// One scope of a token: `read`, `register:PREFIX` or `admin`. The latter two include reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Look up, watch, see the agent's state and metrics.
    Read,
    /// State instances of some services: register, deregister, maintenance, drain, checks, providers.
    Register(Prefix),
    /// Do everything.
    Admin,
}

/// The services that a token may register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prefix {
    /// All services, written `*`.
    Any,
    /// Services whose first labels are these: `web` is for `web` and `web.shop`, not for `web2`.
    Labels(ServiceName),
}

/// A text that is not a scope.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{text:?} is not a scope; known are read, register:PREFIX (first labels of services, or *) and admin"
)]
pub struct ScopeError {
    text: String,
}

impl Prefix {
    /// Whether a service is among them.
    #[must_use]
    pub fn includes(&self, service: &ServiceName) -> bool {
        match self {
            Self::Any => true,
            Self::Labels(labels) => service
                .as_str()
                .strip_prefix(labels.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.')),
        }
    }
}

impl Scope {
    /// Parses a scope as it stands in the file.
    ///
    /// # Errors
    /// When the text is not a scope.
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        let wrong = || ScopeError { text: text.chars().take(128).collect() };
        match (text, text.strip_prefix("register:")) {
            ("read", _) => Ok(Self::Read),
            ("admin", _) => Ok(Self::Admin),
            (_, Some("*")) => Ok(Self::Register(Prefix::Any)),
            (_, Some(labels)) => {
                let labels = ServiceName::parse(labels).map_err(|_| wrong())?;
                Ok(Self::Register(Prefix::Labels(labels)))
            }
            (_, None) => Err(wrong()),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read => f.write_str("read"),
            Self::Register(Prefix::Any) => f.write_str("register:*"),
            Self::Register(Prefix::Labels(labels)) => write!(f, "register:{labels}"),
            Self::Admin => f.write_str("admin"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_a_label_ends() {
        let Scope::Register(prefix) = Scope::parse("register:http.api").unwrap() else { panic!() };
        for (service, is_included) in [
            ("http.api", true),
            ("HTTP.api.prod.shop", true),
            ("http.api2", false),
            ("http", false),
            ("x.http.api", false),
        ] {
            let service = ServiceName::parse(service).unwrap();
            assert_eq!(prefix.includes(&service), is_included, "{service}");
        }
    }

    #[test]
    fn scopes_read_as_they_are_written_and_others_are_refused() {
        for text in ["read", "admin", "register:web", "register:a.b.c.d", "register:*"] {
            assert_eq!(Scope::parse(text).unwrap().to_string(), text);
        }
        for bad in
            ["", "Read", "register", "register:", "register:web*", "register:a.b.c.d.e", "all"]
        {
            assert!(
                Scope::parse(bad).unwrap_err().to_string().contains("register:PREFIX"),
                "{bad}"
            );
        }
    }
}
