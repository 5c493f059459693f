//! Values that are a text in the file and another type in memory, and their descriptions in the schema.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use crate::model::limits::MAX_NAME_OCTETS;
use crate::model::{Label, NameError, debug_as_quoted_text, text_conversions};

/// The suffix of all names in DNS: labels in lower case, without a dot at the end.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainName(Arc<str>);

impl DomainName {
    /// The limit of a domain in octets, with which a service of four labels and a zone still fit in front of it.
    const MAX_OCTETS: usize = 100;

    /// Parses a domain, for example `dunlin.internal`; a dot at the end is removed.
    ///
    /// # Errors
    /// When a label is not valid, or the name leaves no room for service names in front of it.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.len() > Self::MAX_OCTETS.min(MAX_NAME_OCTETS) {
            return Err(NameError::NameTooLong { octets: text.len() });
        }
        for label in text.split('.') {
            Label::parse(label)?;
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The domain without a dot at the end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

text_conversions!(NameError: DomainName);
debug_as_quoted_text!(DomainName);

pub(super) fn socket_address<'de, D: Deserializer<'de>>(d: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(d)?;
    text.parse().map_err(|_| {
        serde::de::Error::custom(format!(
            "{text:?} is not an address with a port, like \"127.0.0.1:5300\" or \"[::1]:5300\"; \
             names are not looked up here"
        ))
    })
}

pub(super) fn optional_socket_address<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<SocketAddr>, D::Error> {
    socket_address(d).map(Some)
}

/// Whether a text is `host:port`, where the host is an address (IPv6 in brackets) or a DNS name.
pub(super) fn is_host_and_port(text: &str) -> bool {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return !address.ip().is_unspecified() && address.port() != 0;
    }
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_port = port.parse::<u16>().is_ok_and(|p| p != 0) && !port.starts_with('+');
    let host = host.strip_suffix('.').unwrap_or(host);
    // Names of hosts may hold underscores. A name whose last label consists of digits is a broken address.
    let is_label = |l: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (1..=63).contains(&l.len()) && l.chars().all(allowed)
    };
    let is_numeric = |l: &str| l.chars().all(|c| c.is_ascii_digit());
    let is_name = host.len() <= MAX_NAME_OCTETS
        && host.split('.').all(is_label)
        && !host.rsplit('.').next().is_some_and(is_numeric);
    is_port && is_name
}

pub(super) fn upstreams<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<SocketAddr>, D::Error> {
    let texts = Vec::<String>::deserialize(d)?;
    let parse = |text: String| {
        let bare = |_| text.parse::<IpAddr>().map(|ip| SocketAddr::from((ip, 53)));
        text.parse::<SocketAddr>().or_else(bare).map_err(|_| {
            serde::de::Error::custom(format!(
                "{text:?} is not an address like \"9.9.9.9\" or \"[2620:fe::fe]:53\""
            ))
        })
    };
    texts.into_iter().map(parse).collect()
}

/// Declares types that exist only to describe in the schema what a text holds.
macro_rules! described_text {
    ($($name:ident: $word:literal, $example:literal;)*) => {$(
        pub(super) struct $name;

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "x-type": $word, "examples": [$example] })
            }
        }
    )*};
}

described_text! {
    DurationText: "duration", "5s";
    SocketText: "address:port", "127.0.0.1:5300";
    HostText: "host:port", "agent-1.example.com:5370";
    IpText: "IP address", "10.0.0.5";
    PathText: "path", "/var/lib/dunlin";
    ModeText: "file mode", "0660";
    LabelText: "label", "eu1";
    DomainText: "domain name", "dunlin.internal";
}
