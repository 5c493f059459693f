//! Alias checks, which have the health of another instance of the same node.

use std::collections::{BTreeMap, BTreeSet};

use super::check::{Check, CheckKey};
use crate::model::{CheckId, CheckKind, CheckStatus, InstanceId};

/// All checks of a node.
pub(super) type Checks = BTreeMap<CheckKey, Check>;

/// The checks of one instance.
pub(super) fn checks_of<'a>(
    checks: &'a Checks,
    instance: &'a InstanceId,
) -> impl Iterator<Item = (&'a CheckKey, &'a Check)> {
    let first = CheckKey { instance: instance.clone(), check: CheckId::least() };
    checks.range(first..).take_while(move |(key, _)| key.instance == *instance)
}

/// The status and output that an alias check has now; `None` if the check is not an alias.
pub(super) fn follow(
    checks: &Checks,
    instances: &BTreeSet<InstanceId>,
    key: &CheckKey,
) -> Option<(CheckStatus, String)> {
    let CheckKind::Alias { instance } = &checks.get(key)?.spec.kind else { return None };
    if !instances.contains(instance) {
        return Some((CheckStatus::Critical, format!("no instance {instance} on this node")));
    }
    if leads_to(checks, instance, &key.instance) {
        let output = format!("instance {instance} follows this one: a circle of aliases");
        return Some((CheckStatus::Critical, output));
    }
    let worst = checks_of(checks, instance).max_by_key(|(_, check)| check.row.status);
    Some(match worst {
        None => (CheckStatus::Passing, format!("{instance} has no checks")),
        Some((key, check)) => {
            (check.row.status, format!("{instance}: {}: {}", key.check, check.row.output))
        }
    })
}

/// Whether following aliases from one instance reaches another.
fn leads_to(checks: &Checks, from: &InstanceId, to: &InstanceId) -> bool {
    let mut seen = BTreeSet::new();
    let mut waiting = vec![from];
    while let Some(instance) = waiting.pop() {
        if instance == to {
            return true;
        }
        if !seen.insert(instance) {
            continue;
        }
        for (_, check) in checks_of(checks, instance) {
            if let CheckKind::Alias { instance } = &check.spec.kind {
                waiting.push(instance);
            }
        }
    }
    false
}
