//! Instances, each of which is one running copy of a service on a node.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::check::{CheckSpec, CheckSpecError};
use super::id::{IdError, InstanceId};
use super::limits::{
    MAX_CHECK_OUTPUT_OCTETS, MAX_CHECKS_PER_INSTANCE, MAX_META_PAIR_OCTETS, MAX_META_PAIRS,
    MAX_REASON_OCTETS, MAX_TAG_OCTETS, MAX_TAGS,
};
use super::meta::Meta;
use super::name::{NameError, ServiceName};
use super::provider::ProviderId;

/// Whether an instance was taken out of answers, by an operator or because it is about to end.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Mode {
    /// The instance is in answers while it is healthy.
    #[default]
    Active,
    /// The instance is about to end.
    Draining,
    /// An operator has taken the instance out of answers.
    Maintenance {
        /// The operator's reason, for other people to read.
        reason: Arc<str>,
    },
}

/// One running copy of a service, as all nodes know it.
///
/// Its encoding as a row, and how it may grow there, is described in `replica/rows/instance.rs`. Its serde form is part
/// of a stored [`Registration`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Fields", into = "Fields")]
pub struct Instance {
    /// The id of the instance, unique on its node.
    pub id: InstanceId,
    /// The service of which it is a copy.
    pub service: ServiceName,
    /// The address at which it listens.
    pub address: IpAddr,
    /// The port on which it listens.
    pub port: NonZeroU16,
    /// Its share of work relative to other instances. With 0 it is used only when no other instance is left.
    pub weight: u16,
    /// The properties that it may share with other instances.
    pub profile: Arc<Profile>,
}

/// The properties that many instances have in common. A large catalog holds them once for each run of instances with the
/// same profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The tags, sorted and without duplicates.
    pub tags: Arc<[Arc<str>]>,
    /// The metadata pairs.
    pub meta: Meta,
    /// The provider that states the instances.
    pub provider: ProviderId,
    /// Whether the instances were taken out of answers.
    pub mode: Mode,
}

/// An instance within a stored [`Registration`]. Fields that are added here need `#[serde(default)]`.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Instance")]
struct Fields {
    id: InstanceId,
    service: ServiceName,
    address: IpAddr,
    port: NonZeroU16,
    weight: u16,
    tags: Arc<[Arc<str>]>,
    meta: Meta,
    provider: ProviderId,
    mode: Mode,
}

impl From<Fields> for Instance {
    fn from(fields: Fields) -> Self {
        let Fields { id, service, address, port, weight, tags, meta, provider, mode } = fields;
        let profile = Arc::new(Profile { tags, meta, provider, mode });
        Self { id, service, address, port, weight, profile }
    }
}

impl From<Instance> for Fields {
    fn from(instance: Instance) -> Self {
        let Instance { id, service, address, port, weight, profile } = instance;
        let Profile { tags, meta, provider, mode } = Arc::unwrap_or_clone(profile);
        Self { id, service, address, port, weight, tags, meta, provider, mode }
    }
}

/// Why a registration is refused. The caller's input is at fault; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InstanceError {
    /// The id is not valid.
    #[error("id: {0}")]
    Id(#[from] IdError),
    /// The service's name is not valid.
    #[error("service: {0}")]
    Service(#[from] NameError),
    /// A check is not valid.
    #[error(transparent)]
    Check(#[from] CheckSpecError),
    /// The port is outside 1 to 65535.
    #[error("port {port} is outside 1 to 65535")]
    Port {
        /// The given port.
        port: i64,
    },
    /// The weight is outside 0 to 65535.
    #[error("weight {weight} is outside 0 to 65535")]
    Weight {
        /// The given weight.
        weight: i64,
    },
    /// The address is neither an IPv4 nor an IPv6 address.
    #[error("address {address:?} is not an IPv4 or IPv6 address; names are not resolved here")]
    Address {
        /// The given text.
        address: String,
    },
    /// The address cannot be connected to: unspecified, multicast or broadcast.
    #[error("address {address} cannot be connected to; give the address where clients reach it")]
    UnusableAddress {
        /// The given address.
        address: IpAddr,
    },
    /// A count or a length exceeds its limit.
    #[error("{what}: {found}; at most {most} are allowed")]
    TooMuch {
        /// The thing that is counted.
        what: &'static str,
        /// The given count or length.
        found: usize,
        /// The limit that is exceeded.
        most: usize,
    },
    /// Two checks of the instance have the same id.
    #[error("check id {id:?} is used twice; give each check its own id")]
    DuplicateCheck {
        /// The id of both checks.
        id: String,
    },
    /// A text holds a control character.
    #[error("{what} {text:?} holds a control character")]
    ControlCharacter {
        /// The kind of the text.
        what: &'static str,
        /// The given text.
        text: String,
    },
}

/// The parts of an instance before they are validated.
#[derive(Debug, Clone)]
pub struct InstanceFields {
    /// The id of the instance, unique on its node.
    pub id: InstanceId,
    /// The service of which it is a copy.
    pub service: ServiceName,
    /// The address at which it listens.
    pub address: IpAddr,
    /// The port on which it listens.
    pub port: i64,
    /// Its share of work relative to other instances.
    pub weight: i64,
    /// The tags in any order.
    pub tags: Vec<String>,
    /// The metadata pairs.
    pub meta: BTreeMap<String, String>,
    /// The provider that states the instance.
    pub provider: ProviderId,
}

impl Instance {
    /// The approximate size of the instance on the wire and on disk, in octets.
    #[must_use]
    pub fn approx_octets(&self) -> usize {
        let Profile { tags, meta, provider, .. } = &*self.profile;
        let tags: usize = tags.iter().map(|tag| tag.len() + 1).sum();
        let meta: usize = meta.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
        let names = self.id.as_str().len() + self.service.as_str().len();
        names + provider.name().len() + 40 + tags + meta
    }

    /// The weight when none is given.
    pub const DEFAULT_WEIGHT: u16 = 100;

    /// Validates the parts and makes an active instance of them.
    ///
    /// # Errors
    /// The first part that is out of bounds.
    pub fn new(fields: InstanceFields) -> Result<Self, InstanceError> {
        let InstanceFields { id, service, address, port, weight, tags, meta, provider } = fields;
        let port = u16::try_from(port)
            .ok()
            .and_then(NonZeroU16::new)
            .ok_or(InstanceError::Port { port })?;
        let weight = u16::try_from(weight).map_err(|_| InstanceError::Weight { weight })?;
        let unusable = address.is_unspecified()
            || address.is_multicast()
            || matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
        if unusable {
            return Err(InstanceError::UnusableAddress { address });
        }
        let (tags, meta) = (parse_tags(tags)?, parse_meta(meta)?);
        let profile = Arc::new(Profile { tags, meta, provider, mode: Mode::Active });
        Ok(Self { id, service, address, port, weight, profile })
    }

    /// The same instance in this mode.
    #[must_use]
    pub fn in_mode(mut self, mode: Mode) -> Self {
        if self.profile.mode != mode {
            Arc::make_mut(&mut self.profile).mode = mode;
        }
        self
    }
}

fn at_most(what: &'static str, found: usize, most: usize) -> Result<(), InstanceError> {
    if found > most { Err(InstanceError::TooMuch { what, found, most }) } else { Ok(()) }
}

fn plain_text(what: &'static str, text: &str) -> Result<(), InstanceError> {
    if text.chars().any(char::is_control) {
        return Err(InstanceError::ControlCharacter { what, text: text.to_owned() });
    }
    Ok(())
}

fn parse_tags(mut tags: Vec<String>) -> Result<Arc<[Arc<str>]>, InstanceError> {
    tags.sort_unstable();
    tags.dedup();
    at_most("tags", tags.len(), MAX_TAGS)?;
    for tag in &tags {
        at_most("octets in a tag", tag.len(), MAX_TAG_OCTETS)?;
        plain_text("tag", tag)?;
    }
    Ok(tags.into_iter().map(Arc::from).collect())
}

fn parse_meta(meta: BTreeMap<String, String>) -> Result<Meta, InstanceError> {
    at_most("meta pairs", meta.len(), MAX_META_PAIRS)?;
    for (key, value) in &meta {
        at_most("octets in a meta pair", key.len() + value.len(), MAX_META_PAIR_OCTETS)?;
        plain_text("meta key", key)?;
    }
    let pairs: BTreeMap<_, _> =
        meta.into_iter().map(|(k, v)| (Arc::from(k), Arc::from(v))).collect();
    Ok(pairs.into())
}

impl Mode {
    /// Maintenance with a reason of at most 1 KiB.
    ///
    /// # Errors
    /// When the reason is longer.
    pub fn maintenance(reason: &str) -> Result<Self, InstanceError> {
        at_most("octets in a reason", reason.len(), MAX_REASON_OCTETS)?;
        Ok(Self::Maintenance { reason: reason.into() })
    }
}

/// The statement of a provider about one instance: the instance and its checks.
///
/// The node stores registrations as JSON, which names its fields. A field that is added to a registration, to its
/// instance or to its checks therefore takes `#[serde(default)]`, so that what an older Dunlin stored can still be read;
/// without it, a database with registrations would count as damaged. A new kind of check is a new variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The instance, as all nodes will know it.
    pub instance: Instance,
    /// Its checks, local to this node.
    pub checks: Vec<CheckSpec>,
}

impl Registration {
    /// The approximate size of an instance without its texts, in octets.
    const FIXED_OCTETS: usize = 512;

    /// The approximate memory that a node needs for it at most, in octets: its texts, and the last output of each check.
    #[must_use]
    pub fn octets(&self) -> usize {
        let Profile { tags, meta, .. } = &*self.instance.profile;
        let tags: usize = tags.iter().map(|tag| tag.len()).sum();
        let meta: usize = meta.iter().map(|(k, v)| k.len() + v.len()).sum();
        let checks: usize =
            self.checks.iter().map(|check| check.text_octets() + MAX_CHECK_OUTPUT_OCTETS).sum();
        Self::FIXED_OCTETS + tags + meta + checks
    }

    /// Joins an instance with its checks.
    ///
    /// # Errors
    /// When there are too many checks, two share an id, or one is out of bounds.
    pub fn new(instance: Instance, checks: Vec<CheckSpec>) -> Result<Self, InstanceError> {
        at_most("checks", checks.len(), MAX_CHECKS_PER_INSTANCE)?;
        for (at, check) in checks.iter().enumerate() {
            check.validate()?;
            if checks[..at].iter().any(|other| other.id == check.id) {
                return Err(InstanceError::DuplicateCheck { id: check.id.to_string() });
            }
        }
        Ok(Self { instance, checks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CheckId, CheckKind};

    fn fields() -> InstanceFields {
        InstanceFields {
            id: InstanceId::parse("web-1").unwrap(),
            service: ServiceName::parse("web").unwrap(),
            address: IpAddr::from([127, 0, 0, 1]),
            port: 8080,
            weight: 100,
            tags: vec!["v2".into(), "a".into(), "v2".into()],
            meta: BTreeMap::new(),
            provider: ProviderId::api(),
        }
    }

    #[test]
    fn tags_are_sorted_without_duplicates() {
        let instance = Instance::new(fields()).unwrap();
        assert_eq!(instance.profile.tags.iter().map(|t| &**t).collect::<Vec<_>>(), ["a", "v2"]);
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for port in [0, -1, 65_536] {
            assert!(matches!(
                Instance::new(InstanceFields { port, ..fields() }),
                Err(InstanceError::Port { .. })
            ));
        }
        assert!(Instance::new(InstanceFields { weight: 65_536, ..fields() }).is_err());
        assert_eq!(Instance::new(InstanceFields { weight: 0, ..fields() }).unwrap().weight, 0);
    }

    #[test]
    fn addresses_nobody_can_connect_to_are_refused() {
        for address in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"] {
            let address = address.parse().unwrap();
            assert!(Instance::new(InstanceFields { address, ..fields() }).is_err(), "{address}");
        }
    }

    #[test]
    fn limits_on_tags_and_meta_hold() {
        let tags = (0..=MAX_TAGS).map(|n| n.to_string()).collect();
        assert!(Instance::new(InstanceFields { tags, ..fields() }).is_err());
        let meta = BTreeMap::from([("k".to_owned(), "v".repeat(MAX_META_PAIR_OCTETS))]);
        assert!(Instance::new(InstanceFields { meta, ..fields() }).is_err());
    }

    #[test]
    fn two_checks_cannot_share_an_id() {
        let check = CheckSpec::with_defaults(
            CheckId::parse("tcp").unwrap(),
            CheckKind::Tcp { target: None },
        );
        let instance = Instance::new(fields()).unwrap();
        let error = Registration::new(instance, vec![check.clone(), check]).unwrap_err();
        assert!(error.to_string().contains("used twice"), "{error}");
    }
}
