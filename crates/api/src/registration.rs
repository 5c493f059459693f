//! What providers state: instances with their checks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An instance to register: the body of `PUT /api/instances/{id}` and an `[[instance]]` of a provider file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// Unique on its node: letters, digits and `. _ : @ -`, at most 128. In a PUT the path gives it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// One to four labels, most specific first.
    #[schema(example = "http.api.prod.shop")]
    pub service: String,
    /// An IPv4 or IPv6 address; the node's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// 1 to 65535.
    #[schema(minimum = 1, maximum = 65535)]
    pub port: i64,
    /// 0 to 65535, 100 when absent; 0 takes work only when nothing else is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 65535)]
    pub weight: Option<i64>,
    /// At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// At most 64 pairs of 4 KiB.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "crate::unique::map"
    )]
    pub meta: BTreeMap<String, String>,
    /// At most 16. Without any the instance is passing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub check: Vec<Check>,
}

/// What a check does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckKind {
    /// Connects.
    Tcp,
    /// Sends an HTTP request.
    Http,
    /// Asks `grpc.health.v1.Health/Check`.
    Grpc,
    /// Runs a command.
    Command,
    /// Waits to be told.
    Ttl,
    /// Has the health of another instance of the node.
    Alias,
}

/// A check of an instance. Which settings apply depends on the kind; another kind's setting is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Unique within the instance; the kind's word when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What it does.
    pub kind: CheckKind,
    /// Time between runs, `"5s"` when absent; 100 ms to 1 day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// How long one run may take, `"1s"` when absent; at most 5 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Failures in a row before critical, 2 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures_before_critical: Option<u32>,
    /// Successes in a row before passing again, 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successes_before_passing: Option<u32>,
    /// Deregister the instance after it has been critical for this long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deregister_after: Option<String>,
    /// tcp, http, grpc: `address:port` or a port; the instance's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// http: path and query, `/` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// http: the method, `GET` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// http: further headers.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "crate::unique::map"
    )]
    pub headers: BTreeMap<String, String>,
    /// http: a status like `"200"` or a range like `"200-399"`; `"200-299"` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_status: Option<String>,
    /// http: text that the body must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_body: Option<String>,
    /// http, grpc: speak TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<bool>,
    /// http, grpc with TLS: the name to send and to verify.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_server_name: Option<String>,
    /// http, grpc with TLS: whether to verify the certificate, true when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_verify: Option<bool>,
    /// grpc: the service to ask about; the whole server when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_service: Option<String>,
    /// command: program and arguments; no shell is involved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// ttl: how long a pushed status holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// alias: the id of the other instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

impl Check {
    /// A check of this kind with everything else left to its default.
    #[must_use]
    pub fn new(kind: CheckKind) -> Self {
        Self {
            id: None,
            kind,
            interval: None,
            timeout: None,
            failures_before_critical: None,
            successes_before_passing: None,
            deregister_after: None,
            target: None,
            path: None,
            method: None,
            headers: BTreeMap::new(),
            expect_status: None,
            expect_body: None,
            tls: None,
            tls_server_name: None,
            tls_verify: None,
            grpc_service: None,
            command: Vec::new(),
            ttl: None,
            instance: None,
        }
    }
}

/// A provider's complete set: the body of `PUT /api/providers/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderSet {
    /// All its instances; what is not here is gone.
    #[serde(default, alias = "instance")]
    pub instances: Vec<Registration>,
    /// Forget the provider and its instances when it does not state its set again within this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "15s")]
    pub ttl: Option<String>,
}

/// A provider and how it fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Provider {
    /// `kind:name`.
    #[schema(example = "file:web.toml")]
    pub provider: String,
    /// How many instances it has stated and holds.
    pub instances: usize,
    /// What is wrong with its last statement, if anything; its last good state holds meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Instances it states that another provider had first, as `id (held by provider)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<String>,
    /// When its state last changed, RFC 3339.
    pub changed: String,
}

/// The answer of `GET /api/providers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderList {
    /// By name.
    pub providers: Vec<Provider>,
}

/// The body of `PUT /api/instances/{id}/maintenance`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceRequest {
    /// Take it out, or put it back (which also ends draining).
    pub enabled: bool,
    /// Why, for other people to read; at most 1 KiB.
    #[serde(default)]
    pub reason: String,
}

/// The body of `PUT /api/instances/{id}/drain`, which may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// Drain it (when absent, too), or put it back.
    #[serde(default = "yes")]
    pub enabled: bool,
}

impl Default for DrainRequest {
    fn default() -> Self {
        Self { enabled: true }
    }
}

fn yes() -> bool {
    true
}

/// The body of `PUT /api/instances/{id}/checks/{check}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckPush {
    /// `passing`, `warning` or `critical`.
    pub status: String,
    /// What to show beside it; cut at 4 KiB.
    #[serde(default)]
    pub output: String,
}
