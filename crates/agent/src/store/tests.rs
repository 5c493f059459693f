//! What the store promises about crashes, damage and foreign files.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dunlin_core::host::HistoryWrite;
use dunlin_core::model::{Instance, InstanceFields, InstanceId, Registration, ServiceName};
use dunlin_core::replica::{
    Change, Delta, Departure, Entry, Extent, Replica, Row, RowKey, RowState, Version,
};

use super::*;

fn registration(id: &str) -> Registration {
    let fields = InstanceFields {
        id: InstanceId::parse(id).unwrap(),
        service: ServiceName::parse("web").unwrap(),
        address: IpAddr::from([127, 0, 0, 1]),
        port: 80,
        weight: 100,
        tags: vec![],
        meta: BTreeMap::new(),
        provider: ProviderId::api(),
    };
    Registration::new(Instance::new(fields).unwrap(), vec![]).unwrap()
}

fn change(id: &str) -> Change {
    let instance = registration(id).instance;
    let key = RowKey::Instance(instance.id.clone());
    Change { key, state: RowState::Present(Row::Instance(instance.into())) }
}

fn removal(id: &str) -> Change {
    let key = RowKey::Instance(InstanceId::parse(id).unwrap());
    Change { key, state: RowState::Gone(Departure::Dropped) }
}

fn commit(replica: &mut Replica, change: Change) -> Delta {
    let delta = replica.prepare([change]).unwrap();
    replica.commit(&delta);
    delta
}

fn put(id: &str) -> ProviderWrite {
    ProviderWrite::PutRegistration(ProviderId::api(), Box::new(registration(id)))
}

#[tokio::test]
async fn what_was_written_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let (store, node, stored) = Store::open(dir.path()).unwrap();
    assert_eq!(stored, Stored::default());
    let mut replica = Replica::new(node);
    let ttl = Some(Duration::from_secs(15));
    let batch = Batch {
        deltas: vec![commit(&mut replica, change("a")), commit(&mut replica, change("b"))],
        providers: vec![ProviderWrite::Put(ProviderId::api(), ttl), put("a"), put("b")],
        ..Batch::default()
    };
    store.write(batch).await.unwrap();
    drop(store);
    let (_store, same_node, stored) = Store::open(dir.path()).unwrap();
    assert_eq!(same_node, node);
    assert_eq!(stored.histories.len(), 1);
    assert_eq!(stored.histories[0].extent, Extent::up_to(Version::new(2)));
    assert_eq!(stored.histories[0].rows.len(), 2);
    assert_eq!(stored.providers[0].ttl, ttl);
    assert_eq!(stored.providers[0].registrations, [registration("a"), registration("b")]);
    assert!(stored.index >= RESERVED_INDEXES, "no index is given out twice");
    let (histories, _) = read_rows(dir.path()).unwrap();
    assert_eq!(histories, stored.histories);
}

#[tokio::test]
async fn purged_tombstones_are_gone_and_the_floor_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (store, node, _) = Store::open(dir.path()).unwrap();
    let mut replica = Replica::new(node);
    let deltas = vec![
        commit(&mut replica, change("a")),
        commit(&mut replica, change("b")),
        commit(&mut replica, removal("a")),
    ];
    store.write(Batch { deltas, ..Batch::default() }).await.unwrap();
    let purge = Some((node, Version::new(3)));
    store.write(Batch { purge, ..Batch::default() }).await.unwrap();
    drop(store);
    let (_store, _, stored) = Store::open(dir.path()).unwrap();
    let history = &stored.histories[0];
    assert_eq!((history.rows.len(), history.floor), (1, Version::new(3)));
}

#[tokio::test]
async fn a_removed_provider_takes_its_registrations_along() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ..) = Store::open(dir.path()).unwrap();
    let put = vec![ProviderWrite::Put(ProviderId::api(), None), put("a"), put("b")];
    store.write(Batch { providers: put, ..Batch::default() }).await.unwrap();
    let id = InstanceId::parse("a").unwrap();
    let one = vec![ProviderWrite::RemoveRegistration(ProviderId::api(), id)];
    store.write(Batch { providers: one, ..Batch::default() }).await.unwrap();
    let (histories, providers) = {
        drop(store);
        let (store, _, stored) = Store::open(dir.path()).unwrap();
        let all = vec![ProviderWrite::Remove(ProviderId::api())];
        store.write(Batch { providers: all, ..Batch::default() }).await.unwrap();
        (stored.histories, stored.providers)
    };
    assert!(histories.is_empty());
    assert_eq!(providers[0].registrations, [registration("b")]);
    let (_store, _, stored) = Store::open(dir.path()).unwrap();
    assert!(stored.providers.is_empty());
}

#[tokio::test]
async fn what_a_newer_version_stored_of_a_kind_unknown_here_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let docker = ProviderId::decode("docker:web").unwrap();
    let (store, ..) = Store::open(dir.path()).unwrap();
    let providers = vec![
        ProviderWrite::Put(docker.clone(), None),
        ProviderWrite::PutRegistration(docker.clone(), Box::new(registration("a"))),
    ];
    store.write(Batch { providers, ..Batch::default() }).await.unwrap();
    drop(store);
    let (_store, _, stored) = Store::open(dir.path()).unwrap();
    assert_eq!(stored.moved_aside, None, "an unknown kind is no damage");
    assert_eq!(stored.providers[0].provider, docker);
    assert_eq!(stored.providers[0].registrations, [registration("a")]);
}

#[test]
fn a_second_agent_is_told_who_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }));
    assert!(error.to_string().contains("in use by another agent"), "{error}");
}

fn files_with(dir: &Path, part: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    entries.filter(|p| p.display().to_string().contains(part)).collect()
}

#[test]
fn damaged_and_foreign_files_are_moved_aside_whole() {
    let foreign = tempfile::tempdir().unwrap();
    let connection = Connection::open(foreign.path().join(Store::FILE)).unwrap();
    connection.execute_batch("CREATE TABLE songs (name); INSERT INTO songs VALUES ('x')").unwrap();
    drop(connection);
    let garbage = tempfile::tempdir().unwrap();
    std::fs::write(garbage.path().join(Store::FILE), [0xa5; 9000]).unwrap();
    for dir in [foreign.path(), garbage.path()] {
        let before = std::fs::read(dir.join(Store::FILE)).unwrap();
        let (_store, _, stored) = Store::open(dir).unwrap();
        assert!(stored.moved_aside.is_some());
        let aside = files_with(dir, "damaged");
        assert_eq!(std::fs::read(&aside[0]).unwrap(), before);
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_moves_the_file_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (store, node, _) = Store::open(dir.path()).unwrap();
    let mut replica = Replica::new(node);
    let deltas = vec![commit(&mut replica, change("a"))];
    store.write(Batch { deltas, ..Batch::default() }).await.unwrap();
    drop(store);
    let connection = Connection::open(dir.path().join(Store::FILE)).unwrap();
    connection.execute("UPDATE rows SET state = x'0001ff'", []).unwrap();
    drop(connection);
    let (_store, _, stored) = Store::open(dir.path()).unwrap();
    assert!(stored.moved_aside.is_some() && stored.histories.is_empty());
    assert!(!files_with(dir.path(), "damaged").is_empty());
}

#[test]
fn a_value_that_is_never_written_moves_the_file_aside() {
    for (what, sql) in [
        (
            "an id of two octets",
            "INSERT INTO histories (origin, head, floor) VALUES (x'0101', 1, 0)",
        ),
        (
            "a head below zero",
            "INSERT INTO histories (origin, head, floor) VALUES (zeroblob(16), -1, 0)",
        ),
        ("a text for a number", "INSERT INTO forgotten VALUES (zeroblob(16), 'many')"),
        (
            "an end beyond all clocks",
            "INSERT INTO providers VALUES ('http:deploy', 9223372036854775807)",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path()).unwrap());
        let connection = Connection::open(dir.path().join(Store::FILE)).unwrap();
        connection.execute(sql, []).unwrap();
        drop(connection);
        let (_store, _, stored) = Store::open(dir.path()).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(stored.moved_aside.is_some(), "{what}");
    }
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    let connection = Connection::open(dir.path().join(Store::FILE)).unwrap();
    connection.pragma_update(None, "user_version", schema::SCHEMA + 1).unwrap();
    drop(connection);
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { .. }), "{error}");
    assert!(files_with(dir.path(), "damaged").is_empty());
}

#[test]
fn a_damaged_node_id_is_an_error_not_a_new_node() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    std::fs::write(dir.path().join("node-id"), "not an id").unwrap();
    let error = Store::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("node-id"), "{error}");
}

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn a_file_of_the_first_schema_is_brought_up_to_date_whole() {
    let dir = tempfile::tempdir().unwrap();
    let node = NodeId::from_bytes([7; 16]);
    std::fs::write(dir.path().join("node-id"), format!("{node}\n")).unwrap();
    let connection = Connection::open(dir.path().join(Store::FILE)).unwrap();
    // As the first release wrote it: an instance "web", a tombstone, a node row without a phase.
    let instance = "0100010377656203776562007f000001506400000d6170693a696e7374616e63657300";
    connection
        .execute_batch(
            "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
             INSERT INTO meta VALUES ('index', 5);
             CREATE TABLE histories (
                 origin BLOB PRIMARY KEY, head INTEGER NOT NULL, floor INTEGER NOT NULL
             ) WITHOUT ROWID;
             CREATE TABLE rows (
                 origin BLOB NOT NULL, key BLOB NOT NULL, version INTEGER NOT NULL,
                 state BLOB NOT NULL, PRIMARY KEY (origin, key)
             ) WITHOUT ROWID;
             CREATE TABLE providers (provider TEXT PRIMARY KEY, ttl_ms INTEGER) WITHOUT ROWID;
             CREATE TABLE registrations (
                 provider TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL,
                 PRIMARY KEY (provider, id)
             ) WITHOUT ROWID;
             PRAGMA application_id = 1146441292; PRAGMA user_version = 1;",
        )
        .unwrap();
    let mut put = connection.prepare("INSERT INTO rows VALUES (?, ?, ?, ?)").unwrap();
    let old_rows = [("010103776562", 3, instance), ("01010161", 2, "010101"), ("0100", 1, "0100")];
    for (key, version, state) in old_rows {
        put.execute(params![node.as_bytes(), octets(key), version, octets(state)]).unwrap();
    }
    drop(put);
    let head = "INSERT INTO histories VALUES (?, 3, 1)";
    connection.execute(head, [node.as_bytes()]).unwrap();
    let (api, body) = ("api:instances", serde_json::to_string(&registration("web")).unwrap());
    connection.execute("INSERT INTO providers VALUES (?, NULL)", [api]).unwrap();
    connection.execute("INSERT INTO registrations VALUES (?, 'web', ?)", [api, &body]).unwrap();
    drop(connection);
    let (_store, _, stored) = Store::open(dir.path()).unwrap();
    assert_eq!(stored.moved_aside, None);
    let history = &stored.histories[0];
    assert_eq!((history.extent.head(), history.floor), (Version::new(3), Version::new(1)));
    let entry = |version, change: Change| {
        (change.key, Entry { version: Version::new(version), state: change.state })
    };
    assert_eq!(history.rows, [entry(2, removal("a")), entry(3, change("web"))]);
    assert_eq!(stored.providers[0].registrations, [registration("web")], "beside its row, too");
    let connection = Connection::open(dir.path().join(Store::FILE)).unwrap();
    let schema: i64 = connection.pragma_query_value(None, "user_version", |r| r.get(0)).unwrap();
    assert_eq!(schema, schema::SCHEMA);
}

fn history(origin: NodeId, head: u64, rows: &[&str]) -> HistoryWrite {
    let entry = |id: &&str| {
        let Change { key, state } = change(id);
        (key, Entry { version: Version::new(head), state })
    };
    HistoryWrite {
        origin,
        extent: Some(Extent::up_to(Version::new(head))),
        floor: Version::ZERO,
        rows: rows.iter().map(entry).collect(),
        gone: vec![],
        replaces_all: false,
    }
}

async fn write_and_reopen(dir: &Path, batch: Batch) -> Stored {
    let (store, ..) = Store::open(dir).unwrap();
    store.write(batch).await.unwrap();
    drop(store);
    Store::open(dir).unwrap().2
}

#[tokio::test]
async fn histories_become_what_is_written_even_if_they_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let other = NodeId::from_bytes([9; 16]);
    let ids = |stored: &Stored| -> Vec<(String, Version)> {
        let rows = stored.histories.iter().flat_map(|h| &h.rows);
        let id = |key: &RowKey| {
            let RowKey::Instance(id) = key else { panic!("{key:?} is no instance") };
            id.to_string()
        };
        rows.map(|(key, entry)| (id(key), entry.version)).collect()
    };
    let batch = |write: HistoryWrite| Batch { histories: vec![write], ..Batch::default() };
    write_and_reopen(dir.path(), batch(history(other, 9, &["a", "b"]))).await;
    let gone = vec![RowKey::Instance(InstanceId::parse("b").unwrap())];
    let write = HistoryWrite { gone, ..history(other, 5, &["a", "c"]) };
    let stored = write_and_reopen(dir.path(), batch(write)).await;
    let at = |id: &str, version| (id.to_owned(), Version::new(version));
    assert_eq!(ids(&stored), [at("a", 5), at("c", 5)]);
    assert_eq!(stored.histories[0].extent, Extent::up_to(Version::new(5)));
    let write = HistoryWrite { replaces_all: true, ..history(other, 7, &["c"]) };
    let stored = write_and_reopen(dir.path(), batch(write)).await;
    assert_eq!(ids(&stored), [at("c", 7)]);
}

#[tokio::test]
async fn pieces_do_not_count_before_the_last_one_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let other = NodeId::from_bytes([9; 16]);
    let v = Version::new;
    let early = Extent::of_parts(v(4), vec![(v(6), v(7))]).unwrap();
    let pieces = [(None, Extent::default()), (Some(early.clone()), early.clone()), (None, early)];
    for (extent, expected) in pieces {
        let write = HistoryWrite { extent, ..history(other, 9, &["a"]) };
        let batch = Batch { histories: vec![write], ..Batch::default() };
        let stored = write_and_reopen(dir.path(), batch).await;
        assert_eq!((&stored.histories[0].extent, stored.histories[0].rows.len()), (&expected, 1));
    }
}

#[tokio::test]
async fn a_forgotten_node_leaves_a_marker_and_may_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let other = NodeId::from_bytes([9; 16]);
    let write = Batch { histories: vec![history(other, 4, &["a"])], ..Batch::default() };
    write_and_reopen(dir.path(), write).await;
    let marker = (other, Version::new(4));
    let batch = Batch { forget: vec![marker], ..Batch::default() };
    let stored = write_and_reopen(dir.path(), batch).await;
    assert_eq!((stored.histories.len(), stored.forgotten), (0, vec![marker]));
    let batch = Batch {
        forget: vec![marker],
        histories: vec![history(other, 6, &["a"])],
        ..Batch::default()
    };
    let stored = write_and_reopen(dir.path(), batch).await;
    assert_eq!((stored.histories.len(), stored.forgotten), (1, vec![marker]));
}

#[tokio::test]
async fn since_when_nodes_are_gone_is_replaced_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let gone = |n| (NodeId::from_bytes([n; 16]), Timestamp::from_millis(n.into()));
    for all in [vec![gone(1), gone(2)], vec![gone(2)], vec![]] {
        let batch = Batch { gone: Some(all.clone()), ..Batch::default() };
        assert_eq!(write_and_reopen(dir.path(), batch).await.gone, all);
    }
}

#[tokio::test]
async fn peers_are_replaced_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let peer = |n| (NodeId::from_bytes([n; 16]), vec![n; 3]);
    for peers in [vec![peer(1), peer(2)], vec![peer(2), peer(3)], vec![]] {
        let batch = Batch { peers: Some(peers.clone()), ..Batch::default() };
        assert_eq!(write_and_reopen(dir.path(), batch).await.peers, peers);
        let nothing = Batch { purge: Some((peer(1).0, Version::ZERO)), ..Batch::default() };
        assert_eq!(write_and_reopen(dir.path(), nothing).await.peers, peers);
    }
}
