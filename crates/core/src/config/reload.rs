//! What a new configuration changes, and what of it a running agent can take over.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::Config;
use super::keys::{self, Shape};

/// One key whose value differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key with its sections.
    pub key: String,
    /// The old value as TOML; `None` when it was not set.
    pub from: Option<String>,
    /// The new value as TOML; `None` when it is not set any more.
    pub to: Option<String>,
}

/// All keys that differ, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReloadDiff {
    /// A running agent applies these.
    pub reloadable: Vec<Change>,
    /// These wait for a restart.
    pub needs_restart: Vec<Change>,
}

pub(super) fn diff(old: &Config, new: &Config) -> ReloadDiff {
    let schema = keys::schema();
    let [old, new] = [old, new].map(leaves);
    let paths: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let mut diff = ReloadDiff::default();
    for path in paths {
        let (from, to) = (old.get(path), new.get(path));
        if from == to {
            continue;
        }
        let change = Change {
            key: path.join("."),
            from: from.map(Value::to_string),
            to: to.map(Value::to_string),
        };
        if is_reloadable(Shape::root(&schema), path) {
            diff.reloadable.push(change);
        } else {
            diff.needs_restart.push(change);
        }
    }
    diff
}

fn is_reloadable(root: Shape<'_>, path: &[String]) -> bool {
    let mut shape = Some(root);
    for key in path {
        shape = shape.and_then(|s| s.child(key));
    }
    shape.is_some_and(Shape::is_reloadable)
}

type Leaves = BTreeMap<Vec<String>, Value>;

fn leaves(config: &Config) -> Leaves {
    let table = Table::try_from(config).expect("settings are tables of plain values");
    let mut leaves = Leaves::new();
    collect(&mut Vec::new(), table, &mut leaves);
    leaves
}

fn collect(path: &mut Vec<String>, table: Table, leaves: &mut Leaves) {
    for (key, value) in table {
        path.push(key);
        if let Value::Table(inner) = value {
            collect(path, inner, leaves);
        } else {
            leaves.insert(path.clone(), value);
        }
        path.pop();
    }
}
