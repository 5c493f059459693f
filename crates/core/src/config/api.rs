//! `[api]`: where the API listens, and what its clients may do.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{is_empty, require, require_within};
use super::{ConfigError, text};

/// The limit of connections and of watches that one client may have, which are all that the agent has.
const MAX_PER_CLIENT: u16 = 16_384;

/// The settings of `[api]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// Where the API listens on TCP, beside the local socket `agent.sock` in the data directory. Any client
    /// may do everything there unless `api.tokens_file` or `api.tls.client_ca` limit it; beyond loopback,
    /// `api.tokens_file` or `api.tls` is needed.
    #[serde(deserialize_with = "text::socket_address")]
    #[schemars(with = "text::SocketText")]
    pub listen: SocketAddr,
    /// Whether the API may listen beyond loopback without `api.tokens_file` and `api.tls`. Any host that
    /// reaches it can then change what this host announces.
    pub insecure: bool,
    /// A file of tokens that says what their bearers may do over TCP, see `dunlin token create`. Without it,
    /// any client may do everything over TCP. The file is watched: new content is taken without a restart.
    #[schemars(with = "Option<text::PathText>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_file: Option<PathBuf>,
    /// The file mode of the local socket, in octal: it says which users of this host may open it. The socket's
    /// group is the agent's.
    #[schemars(with = "text::ModeText")]
    pub socket_mode: SocketMode,
    /// What users of this host may do over the local socket if its mode lets them open it. Root and the agent's own
    /// user may always do everything; a token adds to what a user may do.
    pub socket_users: SocketUsers,
    /// Connections that one client may have over TCP. A client is an IPv4 address, or 64 bits of an IPv6 address.
    /// When all 16,384 connections are taken, the client with the most gives up its newest one to others.
    pub connections_per_client: u16,
    /// Watches and long polls that one client may have open; over the local socket, a client is a user.
    pub watches_per_client: u16,
    /// TLS on TCP; without it, requests and answers can be read on their way. `cert` and `key` are needed.
    /// The files are watched: new content is taken without a restart.
    #[schemars(with = "ApiTls")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ApiTls>,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 5380).into(),
            insecure: false,
            tokens_file: None,
            socket_mode: SocketMode(0o660),
            socket_users: SocketUsers::Admin,
            connections_per_client: MAX_PER_CLIENT,
            watches_per_client: MAX_PER_CLIENT,
            tls: None,
        }
    }
}

/// The settings of `[api.tls]`: files in PEM form.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApiTls {
    /// The API's certificate, and what stands between it and its authority, if anything. It names the
    /// addresses or host names by which clients ask.
    #[schemars(with = "text::PathText")]
    #[serde(skip_serializing_if = "is_empty")]
    pub cert: PathBuf,
    /// The certificate's private key. Only the agent's user should be able to read it.
    #[schemars(with = "text::PathText")]
    #[serde(skip_serializing_if = "is_empty")]
    pub key: PathBuf,
    /// Certificates of authorities. When set, clients must show a certificate that one of them has signed.
    #[schemars(with = "Option<text::PathText>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
}

impl ApiTls {
    fn validate(&self) -> Result<(), ConfigError> {
        for (key, path) in [("cert", &self.cert), ("key", &self.key)] {
            require(!is_empty(path), &format!("api.tls.{key}"), || {
                "is missing; name the files of both, cert and key".to_owned()
            })?;
        }
        let is_named = self.client_ca.as_ref().is_none_or(|file| !is_empty(file));
        require(is_named, "api.tls.client_ca", || "is empty; name a file or leave it out".into())
    }
}

/// What users of this host may do over the local socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum SocketUsers {
    /// They may do everything.
    Admin,
    /// They may look up and watch.
    Read,
}

/// The local socket's file mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SocketMode(u32);

impl SocketMode {
    /// The mode as a number, e.g. `0o660`.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether every user of the host may open the socket: connecting takes the right to write.
    #[must_use]
    pub fn is_open_to_all(self) -> bool {
        self.0 & 0o002 != 0
    }
}

impl TryFrom<String> for SocketMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_octal = text.len() <= 4 && text.chars().all(|c| ('0'..='7').contains(&c));
        let bits = u32::from_str_radix(&text, 8).ok().filter(|_| is_octal);
        match bits {
            Some(bits) if bits & 0o600 == 0o600 && bits & !0o666 == 0 => Ok(Self(bits)),
            _ => Err(format!(
                "{text:?} is not the mode of a socket in octal, like \"0660\": its owner reads and \
                 writes it, nobody executes it"
            )),
        }
    }
}

impl From<SocketMode> for String {
    fn from(mode: SocketMode) -> Self {
        mode.to_string()
    }
}

impl fmt::Display for SocketMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl ApiConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.check_listener(self.listen)
            .map_or(Ok(()), |problem| require(false, "api.listen", || problem))?;
        let is_named = self.tokens_file.as_ref().is_none_or(|file| !is_empty(file));
        require(is_named, "api.tokens_file", || "is empty; name a file or leave it out".into())?;
        let open_to_all = self.socket_mode.is_open_to_all();
        let may_read_alone = self.socket_users == SocketUsers::Read;
        require(!open_to_all || may_read_alone || self.insecure, "api.socket_mode", || {
            format!(
                "{} lets every user of this host do everything; set api.socket_users = \"read\"",
                self.socket_mode
            )
        })?;
        let per_client = [
            ("api.connections_per_client", self.connections_per_client),
            ("api.watches_per_client", self.watches_per_client),
        ];
        for (key, most) in per_client {
            require_within(key, most, 1, MAX_PER_CLIENT)?;
        }
        self.tls.as_ref().map_or(Ok(()), ApiTls::validate)
    }

    /// Why the API must not listen at an address with these settings; `None` if it may.
    #[must_use]
    pub fn check_listener(&self, address: SocketAddr) -> Option<String> {
        let is_guarded = self.tokens_file.is_some() || self.tls.is_some();
        let is_fine = address.ip().to_canonical().is_loopback() || is_guarded || self.insecure;
        (!is_fine).then(|| {
            format!(
                "is {address}, which other hosts reach, and nothing says who may use the API; set \
                 api.tokens_file or api.tls, or api.insecure = true if the network keeps strangers out"
            )
        })
    }

    /// The danger of a listener that is allowed; `None` if there is none.
    #[must_use]
    pub fn exposure(&self, address: SocketAddr) -> Option<&'static str> {
        let names_clients = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        if address.ip().to_canonical().is_loopback() {
            return None;
        }
        match (&self.tls, &self.tokens_file) {
            (None, None) => Some(
                "every host that reaches the API can change what this host announces (api.insecure)",
            ),
            (None, Some(_)) => {
                Some("tokens can be read on their way to the API, since api.tls is not set")
            }
            (Some(_), None) if !names_clients => Some(
                "every host that reaches the API can change what this host announces, since neither \
                 api.tokens_file nor api.tls.client_ca is set",
            ),
            (Some(_), _) => None,
        }
    }
}
