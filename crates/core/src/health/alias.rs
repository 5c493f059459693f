//! Alias checks: the health of another instance of the same node.

use std::collections::BTreeSet;

use super::check::Check;
use super::scheduler::{CheckKey, Scheduler};
use crate::model::{CheckId, CheckKind, CheckStatus, InstanceId};

/// The checks of an instance.
pub(super) fn checks_of<'a>(
    scheduler: &'a Scheduler,
    instance: &'a InstanceId,
) -> impl Iterator<Item = (&'a CheckKey, &'a Check)> {
    let first = CheckKey { instance: instance.clone(), check: CheckId::least() };
    scheduler.checks.range(first..).take_while(move |(key, _)| key.instance == *instance)
}

/// What an alias check says now; `None` if the check is not an alias.
pub(super) fn follow(scheduler: &Scheduler, key: &CheckKey) -> Option<(CheckStatus, String)> {
    let CheckKind::Alias { instance } = &scheduler.checks.get(key)?.spec.kind else { return None };
    if !scheduler.instances.contains(instance) {
        return Some((CheckStatus::Critical, format!("no instance {instance} on this node")));
    }
    if leads_to(scheduler, instance, &key.instance) {
        let output = format!("instance {instance} follows this one: a circle of aliases");
        return Some((CheckStatus::Critical, output));
    }
    let worst = checks_of(scheduler, instance).max_by_key(|(_, check)| check.row.status);
    Some(match worst {
        None => (CheckStatus::Passing, format!("{instance} has no checks")),
        Some((key, check)) => {
            (check.row.status, format!("{instance}: {}: {}", key.check, check.row.output))
        }
    })
}

/// Whether following aliases from one instance reaches another.
fn leads_to(scheduler: &Scheduler, from: &InstanceId, to: &InstanceId) -> bool {
    let mut seen = BTreeSet::new();
    let mut waiting = vec![from];
    while let Some(instance) = waiting.pop() {
        if instance == to {
            return true;
        }
        if !seen.insert(instance) {
            continue;
        }
        for (_, check) in checks_of(scheduler, instance) {
            if let CheckKind::Alias { instance } = &check.spec.kind {
                waiting.push(instance);
            }
        }
    }
    false
}
