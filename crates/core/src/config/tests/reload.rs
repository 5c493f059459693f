//! Each key that is declared reloadable reaches the code that applies it, and no other key does.

use toml::{Table, Value};

use super::super::keys::{self, ANY_NAME, Shape};
use super::super::path::KeyPath;
use super::*;

#[test]
fn a_reload_knows_what_it_can_apply() {
    let old = Config::default();
    let new = parse(
        "[dns]\nttl = \"5s\"\nlisten = \"127.0.0.1:53\"\n[guard.service.web]\npanic = false\n\
         [node]\nname = \"b\"",
    )
    .unwrap();
    let diff = old.diff_reload(&new);
    let keys = |changes: &[ConfigChange]| changes.iter().map(|c| c.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&diff.reloadable), ["dns.ttl", "guard.service.web.panic"]);
    assert_eq!(keys(&diff.needs_restart), ["dns.listen", "node.name"]);
    assert_eq!(diff.reloadable[0].from.as_deref(), Some("\"1s\""));
    assert_eq!(diff.reloadable[0].to.as_deref(), Some("\"5s\""));
    assert_eq!(diff.needs_restart[1].from, None);
    assert_eq!(new.diff_reload(&new), ReloadDiff::default());
}

/// All keys with plain values, each with a value that is not its default. A name of the user's choice is `web`.
fn other_values(shape: Shape<'_>, path: &KeyPath, found: &mut Vec<(KeyPath, Value, bool)>) {
    for (name, key) in shape.children() {
        let path = path.with_key(if name == ANY_NAME { "web" } else { name });
        if key.is_table() {
            other_values(key, &path, found);
        } else {
            found.push((path, other_value(key), key.is_reloadable()));
        }
    }
}

fn other_value(key: Shape<'_>) -> Value {
    let default = key.default_value().cloned().unwrap_or_default();
    let text = |candidates: [&str; 2]| {
        let other = candidates.into_iter().find(|text| default != *text);
        Value::from(other.expect("one of two is not the default"))
    };
    match key.type_word().as_str() {
        "true or false" => Value::from(default != true),
        "number" => Value::from(0.25),
        "whole number" => Value::from(default.as_i64().unwrap_or(0) + 1),
        "text" => text(["debug", "error"]),
        "duration" => text(["7s", "8s"]),
        "address:port" => text(["127.0.0.9:1", "127.0.0.9:2"]),
        "list of address:port" => vec!["127.0.0.9:1"].into(),
        "list of host:port" => vec!["a.example:1"].into(),
        "IP address" => text(["10.0.0.5", "10.0.0.6"]),
        "path" => text(["/a", "/b"]),
        "file mode" => text(["0600", "0640"]),
        "label" => text(["x1", "x2"]),
        "domain name" => text(["a.example", "b.example"]),
        choices => {
            let all: Vec<&str> = choices.split('"').skip(1).step_by(2).collect();
            let other = all.into_iter().find(|choice| default != *choice);
            Value::from(other.unwrap_or_else(|| panic!("no other value for {choices}")))
        }
    }
}

/// The defaults with one key changed. It need not be valid as a whole.
fn changed(path: &KeyPath, value: Value) -> Config {
    let names = path.header();
    let wrap = |value, name: &str| Value::from(Table::from_iter([(name.to_owned(), value)]));
    let whole = names.rsplit('.').fold(value, wrap);
    Config::deserialize(whole).unwrap_or_else(|error| panic!("{names}: {error}"))
}

#[test]
fn exactly_the_keys_that_are_declared_reloadable_reach_those_that_apply_them() {
    let schema = Config::schema();
    let mut keys = Vec::new();
    other_values(Shape::root(&schema), &KeyPath::default(), &mut keys);
    assert!(keys.len() > 30, "{}", keys.len());
    let old = Config::default();
    for (path, value, is_reloadable) in keys {
        let new = changed(&path, value);
        assert_ne!(new, old, "{path} was not changed");
        let is_received = new.reloadable() != old.reloadable();
        assert_eq!(is_received, is_reloadable, "{path}");
        let diff = old.diff_reload(&new);
        let told = if is_reloadable { &diff.reloadable } else { &diff.needs_restart };
        assert!(told.iter().any(|change| change.key == path.to_string()), "{path}: {diff:?}");
    }
}

#[test]
fn the_keys_that_a_running_agent_takes_over_are_these() {
    let schema = Config::schema();
    let mut keys = Vec::new();
    other_values(Shape::root(&schema), &KeyPath::default(), &mut keys);
    let reloadable = keys.iter().filter(|(_, _, is_reloadable)| *is_reloadable);
    let names: Vec<_> = reloadable.map(|(path, _, _)| path.to_string()).collect();
    // The tests of the program show for each of these that a running agent behaves differently.
    let expected = [
        "dns.ttl",
        "guard.hold",
        "guard.max_drop",
        "guard.min_instances",
        "guard.panic",
        "guard.service.web.max_drop",
        "guard.service.web.panic",
        "guard.window",
        "log.filter",
    ];
    assert_eq!(names, expected);
    assert_eq!(keys::schema::<Config>(), schema);
}
