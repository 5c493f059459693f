//! Whether a caller who may state some services only may have a command carried out.
//!
//! Judged here and not at the edge: what a statement replaces is known for certain only between two commands.

use std::collections::BTreeSet;

use dunlin_core::model::{InstanceId, ProviderId, ServiceName};

use crate::access::Grant;
use crate::handle::{Command, RequestError};
use crate::registry::Registry;

/// Checks all services that a command touches: those it states, and those that it replaces or ends.
///
/// # Errors
/// Names the scope that is missing.
pub(super) fn check(
    grant: &Grant,
    command: &Command,
    registry: &Registry,
) -> Result<(), RequestError> {
    let Some(touched) = touched(command, registry) else {
        return Err(RequestError::Forbidden("this needs a token with the scope admin".to_owned()));
    };
    match touched.iter().find(|service| !grant.may_register(service)) {
        None => Ok(()),
        Some(service) => Err(RequestError::Forbidden(format!(
            "this touches the service {service}, which needs a token with the scope register:{service}"
        ))),
    }
}

/// The services of a command; `None` for one that is about more than services.
fn touched(command: &Command, registry: &Registry) -> Option<BTreeSet<ServiceName>> {
    let present = |id: &InstanceId| registry.registration(id).map(|r| r.instance.service.clone());
    let stated = |provider: &ProviderId| {
        registry.stated(provider).map(|r| r.instance.service.clone()).collect::<Vec<_>>()
    };
    match command {
        Command::Register(new, _) => {
            let before = present(&new.instance.id);
            Some(before.into_iter().chain([new.instance.service.clone()]).collect())
        }
        Command::Deregister(id, _) | Command::SetMode(id, ..) => {
            Some(present(id).into_iter().collect())
        }
        Command::PushCheck { instance, .. } => Some(present(instance).into_iter().collect()),
        Command::PutProvider { provider, instances, .. } => {
            let new = instances.iter().map(|r| r.instance.service.clone());
            Some(stated(provider).into_iter().chain(new).collect())
        }
        Command::RemoveProvider(provider, _) => Some(stated(provider).into_iter().collect()),
        Command::SetNodePhase(..)
        | Command::ProviderFailed { .. }
        | Command::Providers(_)
        | Command::Provider(..)
        | Command::LocalInstances(_)
        | Command::ReleaseGuard(..)
        | Command::Within(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dunlin_core::model::{
        Instance, InstanceFields, Mode, NodePhase, ProviderKind, Registration, Timestamp,
    };
    use tokio::sync::oneshot;

    use super::*;
    use crate::access::Scope;

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
        let mut registry = Registry::default();
        for (id, service) in [("w", "web.shop"), ("d", "db")] {
            registry.put_one(now, &api, registration(id, service, &api)).unwrap();
        }
        registry.state(now, &set, vec![registration("c", "cache", &set)], None).unwrap();
        let id = |id: &str| InstanceId::parse(id).unwrap();
        let register = |name: &str, service: &str| {
            Command::Register(Box::new(registration(name, service, &api)), oneshot::channel().0)
        };
        let put = |provider: &ProviderId, services: &[&str]| {
            let one = |s: &&str| registration(s, s, provider);
            let (instances, ttl) = (services.iter().map(one).collect(), None);
            let provider = provider.clone();
            Command::PutProvider { provider, instances, ttl, reply: oneshot::channel().0 }
        };
        let other = ProviderId::new(ProviderKind::Http, "other").unwrap();
        let grant = Grant::of(&[Scope::parse("register:web").unwrap()]);
        for (command, missing) in [
            (register("new", "web"), None),
            (register("w", "web"), None),
            (register("new", "db"), Some("register:db")),
            (register("d", "web"), Some("register:db")),
            (Command::Deregister(id("w"), oneshot::channel().0), None),
            (Command::Deregister(id("nobody"), oneshot::channel().0), None),
            (Command::Deregister(id("d"), oneshot::channel().0), Some("register:db")),
            (Command::SetMode(id("d"), Mode::Draining, oneshot::channel().0), Some("register:db")),
            (put(&other, &["web", "web.shop"]), None),
            (put(&other, &["web", "webs"]), Some("register:webs")),
            (put(&set, &["web"]), Some("register:cache")),
            (Command::RemoveProvider(set.clone(), oneshot::channel().0), Some("register:cache")),
            (Command::RemoveProvider(other.clone(), oneshot::channel().0), None),
            (Command::SetNodePhase(NodePhase::Draining, oneshot::channel().0), Some("scope admin")),
        ] {
            let checked = check(&grant, &command, &registry).map_err(|e| e.to_string());
            let said = checked.err().unwrap_or_default();
            assert_eq!(said.is_empty(), missing.is_none(), "{command:?} {said}");
            assert!(said.contains(missing.unwrap_or_default()), "{command:?} {said}");
        }
    }
}
