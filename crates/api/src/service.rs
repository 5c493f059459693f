//! Services and their instances, as lookups and watches answer.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One service: the answer of `GET /api/services/{name}` and the data of its watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Service {
    /// The service's name.
    #[schema(example = "http.api.prod.shop")]
    pub service: String,
    /// When it last changed; pass it as `?index=` to wait for the next change. Counted by this agent alone.
    pub index: u64,
    /// Whether the guard is holding back a sharp drop.
    pub guarded: bool,
    /// Its instances, own zone first.
    pub instances: Vec<Instance>,
}

/// Several services: the first data of a watch of many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceSet {
    /// The catalog's index.
    pub index: u64,
    /// Those that were asked for; one that does not exist has no instances.
    pub services: Vec<Service>,
}

/// One instance of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Instance {
    /// Unique on its node.
    pub id: String,
    /// The node it runs on.
    pub node: String,
    /// The node's zone.
    pub zone: String,
    /// Where it listens.
    #[schema(value_type = String, example = "127.0.0.1")]
    pub address: IpAddr,
    /// Where it listens.
    pub port: u16,
    /// Its share of work relative to the others.
    pub weight: u16,
    /// Sorted, without duplicates.
    pub tags: Vec<String>,
    /// Free pairs.
    pub meta: BTreeMap<String, String>,
    /// `passing`, `warning`, `critical`, `draining`, `maintenance` or `unreachable`.
    pub health: String,
    /// Why it is in answers although its health says otherwise; absent when health alone decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
    /// Why it is in maintenance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its checks, by id.
    pub checks: Vec<CheckState>,
}

/// Why an instance is in answers although its health says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// The guard holds it: it vanished together with too many others, yet answers a probe.
    Held,
    /// No instance of the service is healthy and this one still accepts connections.
    Panic,
}

/// What a check last said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckState {
    /// Unique within the instance.
    pub id: String,
    /// `passing`, `warning` or `critical`.
    pub status: String,
    /// What it said, at most 4 KiB.
    pub output: String,
    /// When the status began, RFC 3339.
    #[schema(example = "2026-11-21T03:00:00Z")]
    pub since: String,
}

/// The answer of `GET /api/services`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceList {
    /// The catalog's index.
    pub index: u64,
    /// All services by name.
    pub services: Vec<ServiceSummary>,
}

/// A service in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceSummary {
    /// Its name.
    pub service: String,
    /// When it last changed.
    pub index: u64,
    /// Whether the guard is holding back a sharp drop.
    pub guarded: bool,
    /// How many instances are registered.
    pub instances: usize,
    /// How many of them answers hold.
    pub healthy: usize,
    /// How many have each health; those with none are absent.
    pub health: BTreeMap<String, usize>,
    /// How many stand in each zone.
    pub zones: BTreeMap<String, usize>,
}

/// An instance registered on this agent, with what only this agent knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LocalInstance {
    /// The service it belongs to.
    pub service: String,
    /// Who stated it, `kind:name`.
    #[schema(example = "file:web.toml")]
    pub provider: String,
    /// The instance as everyone sees it.
    #[serde(flatten)]
    pub instance: Instance,
}

/// The answer of `GET /api/instances`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LocalInstanceList {
    /// By id.
    pub instances: Vec<LocalInstance>,
}
