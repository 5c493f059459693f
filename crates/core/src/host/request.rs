//! What a host can be asked to do, by whom, and what it answers.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::registry::{Registry, RegistryError};
use crate::model::{
    CheckId, CheckStatus, InstanceId, Mode, NodePhase, ProviderId, Registration, ServiceName,
};

/// Numbers a request, so that its answer finds the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What a host can be asked to do. Reads are not among it: readers have the published view and registry.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Register or replace one instance of the `api` provider.
    Register(Box<Registration>),
    /// Deregister an instance that was registered by its id. What a file, a set or a run states, they take back.
    Deregister(InstanceId),
    /// Take an instance out of answers, or put it back.
    SetMode(InstanceId, Mode),
    /// Say of the own node whether it wants clients. Draining survives restarts; having left does not.
    SetNodePhase(NodePhase),
    /// Push the status of a TTL check.
    PushCheck {
        /// The instance.
        instance: InstanceId,
        /// Its check.
        check: CheckId,
        /// The status.
        status: CheckStatus,
        /// What to show beside it.
        output: String,
    },
    /// Replace a provider's complete set.
    PutProvider {
        /// The provider.
        provider: ProviderId,
        /// All its instances.
        instances: Vec<Registration>,
        /// Forget the provider when it does not state its set again within this time.
        ttl: Option<Duration>,
    },
    /// A provider's last statement could not be read. Its last good state holds.
    ProviderFailed {
        /// The provider.
        provider: ProviderId,
        /// What was wrong.
        error: String,
    },
    /// Forget a provider and its instances.
    RemoveProvider(ProviderId),
    /// End the guard's hold of a service.
    ReleaseGuard(ServiceName),
}

/// What came of a request that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is done; what it changed was there before.
    Done,
    /// It is done, and the instance is new.
    Created,
}

/// Why a request was not carried out. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The request itself is wrong.
    #[error("{error}")]
    Invalid {
        /// What is wrong, and where.
        error: String,
        /// What would be right.
        hint: String,
    },
    /// What it names does not exist.
    #[error("{0}")]
    NotFound(String),
    /// It contradicts what another provider stated first.
    #[error("{0}")]
    Conflict(String),
    /// The caller may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// The disk did not take it.
    #[error("the change could not be stored: {0}")]
    Storage(String),
    /// The host has too much to do, or hangs.
    #[error("the agent is too busy to take the request")]
    Busy,
    /// The host is shutting down.
    #[error("the agent is shutting down")]
    Stopping,
}

impl From<RegistryError> for RequestError {
    fn from(error: RegistryError) -> Self {
        let text = error.to_string();
        match error {
            RegistryError::UnknownInstance(_) | RegistryError::UnknownProvider(_) => {
                Self::NotFound(text)
            }
            RegistryError::Held { holder, .. } => {
                Self::Conflict(format!("{text}; change it where it is stated, {holder}"))
            }
            RegistryError::DuplicateId(_) => {
                Self::Invalid { error: text, hint: "give each instance its own id".to_owned() }
            }
            RegistryError::TooManyInstances { .. }
            | RegistryError::TooManyStated { .. }
            | RegistryError::TooLargeInForce { .. }
            | RegistryError::TooLarge { .. }
            | RegistryError::TooManyProviders => Self::Invalid { error: text, hint: String::new() },
        }
    }
}

/// The services that a caller may state, for callers that may not do everything.
pub trait Permit: fmt::Debug + Send + Sync {
    /// Whether instances of this service may be stated.
    fn may_register(&self, service: &ServiceName) -> bool;
}

/// The permit of a request; `None` is for a caller that may do everything.
pub type Permitted = Option<Arc<dyn Permit>>;

impl Request {
    /// Checks all services that the request touches: those that it states, and those that it replaces or ends.
    /// What a statement replaces is known for certain only here, between two requests.
    ///
    /// # Errors
    /// Names the scope that is missing.
    pub(super) fn check(
        &self,
        permit: &Permitted,
        registry: &Registry,
    ) -> Result<(), RequestError> {
        let Some(permit) = permit else { return Ok(()) };
        let Some(touched) = self.touched(registry) else {
            let needs = "this needs a token with the scope admin";
            return Err(RequestError::Forbidden(needs.to_owned()));
        };
        match touched.iter().find(|service| !permit.may_register(service)) {
            None => Ok(()),
            Some(service) => Err(RequestError::Forbidden(format!(
                "this touches the service {service}, which needs a token with the scope register:{service}"
            ))),
        }
    }

    /// The services that the request touches; `None` for one that is about more than services.
    fn touched(&self, registry: &Registry) -> Option<BTreeSet<ServiceName>> {
        let present =
            |id: &InstanceId| registry.registration(id).map(|r| r.instance.service.clone());
        let stated = |provider: &ProviderId| {
            registry.stated(provider).map(|r| r.instance.service.clone()).collect::<Vec<_>>()
        };
        match self {
            Self::Register(new) => {
                let before = present(&new.instance.id);
                Some(before.into_iter().chain([new.instance.service.clone()]).collect())
            }
            Self::Deregister(id) | Self::SetMode(id, _) => Some(present(id).into_iter().collect()),
            Self::PushCheck { instance, .. } => Some(present(instance).into_iter().collect()),
            Self::PutProvider { provider, instances, .. } => {
                let new = instances.iter().map(|r| r.instance.service.clone());
                Some(stated(provider).into_iter().chain(new).collect())
            }
            Self::RemoveProvider(provider) => Some(stated(provider).into_iter().collect()),
            Self::SetNodePhase(_) | Self::ProviderFailed { .. } | Self::ReleaseGuard(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{Instance, InstanceFields, ProviderKind, Timestamp};

    /// Permits the services whose first label is `web`.
    #[derive(Debug)]
    struct Web;

    impl Permit for Web {
        fn may_register(&self, service: &ServiceName) -> bool {
            service.as_str().split('.').next() == Some("web")
        }
    }

    fn registration(id: &str, service: &str, provider: &ProviderId) -> Registration {
        let fields = InstanceFields {
            id: InstanceId::parse(id).unwrap(),
            service: ServiceName::parse(service).unwrap(),
            address: "10.0.0.1".parse().unwrap(),
            port: 80,
            weight: 100,
            tags: Vec::new(),
            meta: BTreeMap::new(),
            provider: provider.clone(),
        };
        Registration { instance: Instance::new(fields).unwrap(), checks: Vec::new() }
    }

    #[test]
    fn what_is_stated_and_what_it_replaces_must_both_be_granted() {
        let (api, now) = (ProviderId::api(), Timestamp::default());
        let set = ProviderId::new(ProviderKind::Http, "deploy").unwrap();
        let other = ProviderId::new(ProviderKind::Http, "other").unwrap();
        let mut registry = Registry::default();
        for (id, service) in [("w", "web.shop"), ("d", "db")] {
            registry.put_one(now, &api, registration(id, service, &api)).unwrap();
        }
        registry.state(now, &set, vec![registration("c", "cache", &set)], None).unwrap();
        let permit: Permitted = Some(Arc::new(Web));
        let id = |id: &str| InstanceId::parse(id).unwrap();
        let register = |name: &str, service: &str| {
            Request::Register(Box::new(registration(name, service, &api)))
        };
        let put = |provider: &ProviderId, services: &[&str]| {
            let one = |s: &&str| registration(s, s, provider);
            let instances = services.iter().map(one).collect();
            Request::PutProvider { provider: provider.clone(), instances, ttl: None }
        };
        let push = |name: &str| Request::PushCheck {
            instance: id(name),
            check: CheckId::parse("ttl").unwrap(),
            status: CheckStatus::Passing,
            output: String::new(),
        };
        for (request, missing) in [
            (register("new", "web"), None),
            (register("w", "web"), None),
            (register("new", "db"), Some("register:db")),
            (register("d", "web"), Some("register:db")),
            (Request::Deregister(id("w")), None),
            (Request::Deregister(id("unknown")), None),
            (Request::Deregister(id("d")), Some("register:db")),
            (Request::SetMode(id("d"), Mode::Draining), Some("register:db")),
            (push("w"), None),
            (push("d"), Some("register:db")),
            (put(&other, &["web", "web.shop"]), None),
            (put(&other, &["web", "webs"]), Some("register:webs")),
            (put(&set, &["web"]), Some("register:cache")),
            (Request::RemoveProvider(set.clone()), Some("register:cache")),
            (Request::RemoveProvider(other.clone()), None),
            (Request::SetNodePhase(NodePhase::Draining), Some("scope admin")),
        ] {
            let checked = request.check(&permit, &registry);
            let said = checked.err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(said.is_empty(), missing.is_none(), "{request:?} {said}");
            assert!(said.contains(missing.unwrap_or_default()), "{request:?} {said}");
        }
    }
}
