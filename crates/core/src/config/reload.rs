//! The changes of a new configuration, and the part of them that a running agent applies.
//!
//! The reloadable keys are declared here and nowhere else. From the declaration come the marks in the schema and in
//! the reference, the difference that is shown to people, and [`Reloadable`], the value from which the agent and the
//! program apply it. Both destructure it without `..`, so that a key that is added here does not compile until they
//! handle it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use toml::{Table, Value};

use super::guard::GuardConfig;
use super::keys::{self, Shape};
use super::path::KeyPath;
use super::{Config, Root};

/// Declares the fields of [`Reloadable`], each with the key or section from which it is made.
macro_rules! reloadable {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $($key:ident).+;)*) => {
        /// The settings that a running agent applies from a new configuration: exactly the keys declared reloadable.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Reloadable {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl Reloadable {
            /// The keys and sections, each as the names on its path.
            pub(super) const KEYS: &'static [&'static [&'static str]] =
                &[$(&[$(stringify!($key)),+]),*];

            pub(super) fn of(config: &Config) -> Self {
                Self { $($field: Clone::clone(&config.$($key).+)),* }
            }
        }
    };
}

reloadable! {
    /// When the guard holds instances.
    guard: GuardConfig = guard;
    /// How long clients may cache an answer of the DNS server.
    dns_ttl: Duration = dns.ttl;
    /// Which lines are written to the log.
    log_filter: String = log.filter;
}

/// One key whose value differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// The key with its sections.
    pub key: String,
    /// The old value as TOML; `None` when it was not set.
    pub from: Option<String>,
    /// The new value as TOML; `None` when it is no longer set.
    pub to: Option<String>,
}

/// All keys that differ, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReloadDiff {
    /// The changes that a running agent applies.
    pub reloadable: Vec<ConfigChange>,
    /// The changes that need a restart.
    pub needs_restart: Vec<ConfigChange>,
}

/// Compares two configurations. The sections of a list are compared by their positions.
pub(super) fn diff<C: Root>(old: &C, new: &C) -> ReloadDiff {
    let schema = keys::schema::<C>();
    let [old, new] = [old, new].map(|config| Leaves::of(config, Shape::root(&schema)));
    let paths: BTreeSet<_> = old.0.keys().chain(new.0.keys()).collect();
    let mut diff = ReloadDiff::default();
    for path in paths {
        let (from, to) = (old.0.get(path), new.0.get(path));
        let value = |leaf: Option<&Leaf>| leaf.map(|leaf| leaf.value.to_string());
        let change = ConfigChange { key: path.to_string(), from: value(from), to: value(to) };
        if change.from == change.to {
            continue;
        }
        if from.or(to).is_some_and(|leaf| leaf.is_reloadable) {
            diff.reloadable.push(change);
        } else {
            diff.needs_restart.push(change);
        }
    }
    diff
}

/// The value of a key that is neither a section nor a list of sections.
struct Leaf {
    value: Value,
    is_reloadable: bool,
}

struct Leaves(BTreeMap<KeyPath, Leaf>);

impl Leaves {
    fn of<C: Root>(config: &C, root: Shape<'_>) -> Self {
        let table = Table::try_from(config).expect("settings are tables of plain values");
        let mut leaves = Self(BTreeMap::new());
        leaves.collect(&mut KeyPath::default(), root, table.into());
        leaves
    }

    fn collect(&mut self, path: &mut KeyPath, shape: Shape<'_>, value: Value) {
        if let Value::Table(table) = value {
            for (key, value) in table {
                let child = shape.child(&key).expect("a setting has its place in the schema");
                path.push_key(&key);
                self.collect(path, child, value);
                path.pop();
            }
        } else if let (Some(item), Value::Array(list)) = (shape.item(), &value) {
            for (at, value) in list.iter().enumerate() {
                path.push_item(at);
                self.collect(path, item, value.clone());
                path.pop();
            }
        } else {
            let is_reloadable = shape.is_reloadable();
            self.0.insert(path.clone(), Leaf { value, is_reloadable });
        }
    }
}
