//! `[node]`: what this host is called and where it stands.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{is_empty, require};
use super::{ConfigError, text};
use crate::model::limits::{MAX_META_PAIR_OCTETS, MAX_META_PAIRS};
use crate::model::{NodeName, ZoneName};

/// The settings of `[node]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// The node's name, one label, unique among all agents. When absent: the host's name up to the
    /// first dot, lower case, with '-' for whatever a label cannot hold.
    #[schemars(with = "Option<text::LabelText>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<NodeName>,
    /// The failure domain the node stands in: a room, a data centre, a region. Lookups prefer their own.
    #[schemars(with = "text::LabelText")]
    pub zone: ZoneName,
    /// Where this node's services are reached unless an instance says otherwise. When absent: the first
    /// address of an interface that is up and neither loopback nor link-local, IPv4 before IPv6, in the
    /// order in which the system lists interfaces; 127.0.0.1 if there is none. Set it on hosts with several.
    #[schemars(with = "Option<text::IpText>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Where the agent keeps its database and its local socket; one directory per agent. When absent:
    /// `/var/lib/dunlin` for root, else `$XDG_STATE_HOME/dunlin` or `~/.local/state/dunlin`.
    #[schemars(with = "Option<text::PathText>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Free pairs that others see beside the node's name: at most 64 of 4 KiB.
    pub meta: BTreeMap<String, String>,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            name: None,
            zone: ZoneName::parse("z1").expect("z1 is a label and not reserved"),
            address: None,
            data_dir: None,
            meta: BTreeMap::new(),
        }
    }
}

impl NodeConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let is_unusable = self.address.is_some_and(|a| a.is_unspecified() || a.is_multicast());
        require(!is_unusable, "node.address", || {
            "is not an address that others can connect to".to_owned()
        })?;
        let is_unnamed = self.data_dir.as_deref().is_some_and(is_empty);
        require(!is_unnamed, "node.data_dir", || "is empty".to_owned())?;
        let pairs = self.meta.len();
        require(pairs <= MAX_META_PAIRS, "node.meta", || {
            format!("has {pairs} pairs; at most {MAX_META_PAIRS} are allowed")
        })?;
        for (key, value) in &self.meta {
            let octets = key.len() + value.len();
            require(octets <= MAX_META_PAIR_OCTETS, "node.meta", || {
                format!(
                    "pair {key:?} has {octets} octets; at most {MAX_META_PAIR_OCTETS} are allowed"
                )
            })?;
        }
        Ok(())
    }
}
