//! What the first version of Dunlin stored is read by every later one, and written again as it was.
//!
//! The octets and texts here are never changed. A field that is added to a row by the rules of `dunlin_core::fields`, or
//! to a registration with `#[serde(default)]`, leaves them as they are.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]

use std::path::Path;
use std::time::Duration;

use dunlin_agent::last_known;
use dunlin_agent::store::Store;
use dunlin_core::host::Stored;
use dunlin_core::model::{
    CheckId, CheckKind, CheckSpec, InstanceId, Mode, NodeId, NodeName, NodePhase,
};
use dunlin_core::replica::{Extent, Row, RowKey, Version};
use rusqlite::{Connection, params};

const OTHER: [u8; 16] = [9; 16];

/// Key and state of each row, in the order of their keys: a node, an instance, a check, and tombstones.
const ROWS: [(&str, &str); 5] = [
    ("00", "00 00 026e31 026575 00 0a000001 01 01 047261636b 027237 00"),
    ("01 01 61", "01 01"),
    (
        "01 05 7765622d31",
        "00 01 05 7765622d31 08 687474702e617069 01 fd000000000000000000000000000001 903f 64
         02 0161 027632 01 016b 0176 0d 66696c653a7765622e746f6d6c 02 04 6469736b",
    ),
    ("02 01 61 03 746370", "01 00"),
    ("02 05 7765622d31 03 746370", "00 02 02 07 72656675736564 e807 01"),
];

const INSTANCE: &str = r#""instance":{"id":"web-1","service":"web","address":"127.0.0.1","port":80,"weight":100,"tags":["a"],"meta":{"k":"v"},"provider":"api:web-1","mode":{"Maintenance":{"reason":"disk"}}}"#;

const CHECKS: [&str; 6] = [
    r#"{"id":"tcp","kind":{"Tcp":{"target":"127.0.0.1:81"}},"interval":{"secs":5,"nanos":0},"timeout":{"secs":1,"nanos":500000000},"failures_before_critical":2,"successes_before_passing":1,"deregister_after":{"secs":60,"nanos":0}}"#,
    r#"{"id":"http","kind":{"Http":{"target":null,"method":"GET","path":"/","headers":[["a","b"]],"expect_status":{"start":200,"end":299},"expect_body":"ok","tls":{"server_name":"web","verify":true}}},"interval":{"secs":5,"nanos":0},"timeout":{"secs":1,"nanos":0},"failures_before_critical":2,"successes_before_passing":1,"deregister_after":null}"#,
    r#"{"id":"grpc","kind":{"Grpc":{"target":null,"service":"web","tls":null}},"interval":{"secs":5,"nanos":0},"timeout":{"secs":1,"nanos":0},"failures_before_critical":2,"successes_before_passing":1,"deregister_after":null}"#,
    r#"{"id":"command","kind":{"Command":{"argv":["true"]}},"interval":{"secs":5,"nanos":0},"timeout":{"secs":1,"nanos":0},"failures_before_critical":2,"successes_before_passing":1,"deregister_after":null}"#,
    r#"{"id":"ttl","kind":{"Ttl":{"ttl":{"secs":10,"nanos":0}}},"interval":{"secs":5,"nanos":0},"timeout":{"secs":1,"nanos":0},"failures_before_critical":2,"successes_before_passing":1,"deregister_after":null}"#,
    r#"{"id":"alias","kind":{"Alias":{"instance":"web-2"}},"interval":{"secs":5,"nanos":0},"timeout":{"secs":1,"nanos":0},"failures_before_critical":2,"successes_before_passing":1,"deregister_after":null}"#,
];

fn octets(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// A database with rows of another node and one registration.
fn store(dir: &Path, body: &str) {
    drop(Store::open(dir).unwrap());
    let database = Connection::open(dir.join(Store::FILE)).unwrap();
    for (key, state) in ROWS {
        let row = params![OTHER, octets(key), 1, octets(state)];
        database.execute("INSERT INTO rows VALUES (?, ?, ?, ?)", row).unwrap();
    }
    let history = "INSERT INTO histories (origin, head, floor) VALUES (?, 1, 0)";
    database.execute(history, [OTHER]).unwrap();
    database.execute("INSERT INTO providers VALUES ('api:web-1', 15000)", []).unwrap();
    let registration = "INSERT INTO registrations VALUES ('api:web-1', 'web-1', ?)";
    database.execute(registration, [body]).unwrap();
}

fn load(dir: &Path) -> Stored {
    let (_store, _, stored) = Store::open(dir).unwrap();
    assert_eq!(stored.moved_aside, None);
    stored
}

fn body() -> String {
    format!("{{{INSTANCE},\"checks\":[{}]}}", CHECKS.join(","))
}

#[test]
fn rows_of_the_first_version_are_read_and_written_with_the_same_octets() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path(), &body());
    let [history] = &load(dir.path()).histories[..] else { panic!("there is one history") };
    assert_eq!(history.origin, NodeId::from_bytes(OTHER));
    assert_eq!(history.extent, Extent::up_to(Version::new(1)));
    assert_eq!(history.rows.len(), ROWS.len());
    for ((key, entry), (key_hex, state_hex)) in history.rows.iter().zip(ROWS) {
        let (mut key_octets, mut state_octets) = (Vec::new(), Vec::new());
        key.encode(&mut key_octets);
        entry.state.encode(&mut state_octets);
        assert_eq!((key_octets, state_octets), (octets(key_hex), octets(state_hex)), "{key:?}");
        assert!(!matches!(key, RowKey::Other(_)), "{key:?} is known");
        let row = entry.state.present();
        assert!(!matches!(row, Some(Row::Other(_))), "{row:?} is known");
    }
}

#[test]
fn registrations_of_the_first_version_are_read() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path(), &body());
    let [provider] = &load(dir.path()).providers[..] else { panic!("there is one provider") };
    assert_eq!(provider.ttl, Some(Duration::from_secs(15)));
    let [registration] = &provider.registrations[..] else { panic!("it states one instance") };
    let instance = &registration.instance;
    assert_eq!(instance.profile.mode, Mode::maintenance("disk").unwrap());
    assert_eq!((instance.port.get(), instance.weight), (80, 100));
    let checks = &registration.checks;
    let ids: Vec<_> = checks.iter().map(|check| check.id.as_str()).collect();
    assert_eq!(ids, ["tcp", "http", "grpc", "command", "ttl", "alias"]);
    assert!(
        checks
            .iter()
            .all(|check| check.validate().is_ok() && check.kind.as_str() == check.id.as_str())
    );
    let alias = CheckKind::Alias { instance: InstanceId::parse("web-2").unwrap() };
    let alias = CheckSpec::with_defaults(CheckId::parse("alias").unwrap(), alias);
    assert_eq!(checks.last(), Some(&alias));
}

/// After a downgrade, what only the newer version knew of the own registrations is lost, and nothing else.
#[test]
fn fields_that_only_newer_versions_know_do_not_damage_a_registration() {
    let newer = |text: &str| text.replace("\"id\"", "\"unknown\":1,\"id\"");
    let newer = newer(&body()).replacen('{', "{\"unknown\":1,", 1);
    let (old_dir, new_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    store(old_dir.path(), &body());
    store(new_dir.path(), &newer);
    assert_eq!(load(new_dir.path()).providers, load(old_dir.path()).providers);
}

/// The own row of a newer version, which left, is read after a downgrade.
#[test]
fn having_left_ends_with_a_restart_also_when_a_newer_version_said_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, own, _) = Store::open(dir.path()).unwrap();
    drop(store);
    let database = Connection::open(dir.path().join(Store::FILE)).unwrap();
    let left = "00 00 026e31 026575 00 0a000001 01 00 02 0000000000000000 ff";
    let row = params![own.as_bytes(), octets("00"), octets(left)];
    database.execute("INSERT INTO rows VALUES (?, ?, 1, ?)", row).unwrap();
    let history = "INSERT INTO histories (origin, head, floor) VALUES (?, 1, 0)";
    database.execute(history, [own.as_bytes()]).unwrap();
    drop(database);
    let shown = last_known(dir.path()).unwrap().view;
    let node = shown.node(&NodeName::parse("n1").unwrap()).unwrap();
    assert_eq!(node.row.phase, NodePhase::Active);
}
