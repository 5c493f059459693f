//! The checks of this host's instances: which there are, and what each is about.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use super::output::Moment;
use super::registry::{Effect, InstanceChange};
use crate::health::{CheckKey, Scheduler};
use crate::model::{CheckSpec, InstanceId, NodeId, Registration, ServiceName};
use crate::replica::{Replica, RowKey};

/// The scheduler of checks, and the addresses that they are about.
#[derive(Debug)]
pub(super) struct Checks {
    pub(super) scheduler: Scheduler,
    /// The service and the address of each registered instance.
    targets: BTreeMap<InstanceId, (ServiceName, SocketAddr)>,
}

impl Checks {
    pub(super) fn new(seed: u64) -> Self {
        Self { scheduler: Scheduler::new(seed), targets: BTreeMap::new() }
    }

    /// What the checks of an instance are about, while it is registered.
    pub(super) fn target(&self, instance: &InstanceId) -> Option<&(ServiceName, SocketAddr)> {
        self.targets.get(instance)
    }

    /// Starts, changes or ends the checks of an instance, once the change is in the replica.
    pub(super) fn follow(
        &mut self,
        moment: Moment,
        own: NodeId,
        replica: &Replica,
        change: &InstanceChange,
    ) {
        let Moment { now, wall } = moment;
        let InstanceChange { effect, is_renewed } = change;
        let (id, specs): (&InstanceId, &[CheckSpec]) = match effect {
            Effect::Upsert(registration) => (&registration.instance.id, &registration.checks),
            Effect::Remove(id, _) => (id, &[]),
        };
        for check in self.scheduler.checks_of(id) {
            if *is_renewed || !specs.iter().any(|spec| spec.id == check) {
                self.scheduler.remove(&CheckKey { instance: id.clone(), check });
            }
        }
        if let Effect::Upsert(registration) = effect {
            self.follow_address(now, registration);
        }
        for spec in specs {
            let key = CheckKey { instance: id.clone(), check: spec.id.clone() };
            let row = replica.row(own, &RowKey::Check(id.clone(), spec.id.clone()));
            let stored = row.and_then(|row| Some((**row.check()?).clone()));
            self.scheduler.upsert(now, wall, key, spec.clone(), stored);
        }
        let is_registered = matches!(effect, Effect::Upsert(_));
        if !is_registered {
            self.targets.remove(id);
        }
        self.scheduler.set_instance(now, wall, id, is_registered);
    }

    /// What was seen at an instance's old address says nothing of its new one.
    fn follow_address(&mut self, now: Instant, registration: &Registration) {
        let instance = &registration.instance;
        let address = SocketAddr::new(instance.address, instance.port.get());
        let target = (instance.service.clone(), address);
        let before = self.targets.insert(instance.id.clone(), target);
        if before.is_some_and(|(_, before)| before != address) {
            self.scheduler.recheck(now, &instance.id);
        }
    }
}
