//! What the store promises about crashes, damage and foreign files.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dunlin_core::model::{Instance, InstanceFields, ServiceName};
use dunlin_core::replica::{Change, Departure, Replica, Row};

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
        purge: None,
    };
    store.write(batch).await.unwrap();
    drop(store);
    let (_store, same_node, stored) = Store::open(dir.path()).unwrap();
    assert_eq!(same_node, node);
    assert_eq!(stored.histories.len(), 1);
    assert_eq!(stored.histories[0].head, Version::new(2));
    assert_eq!(stored.histories[0].rows.len(), 2);
    assert_eq!(stored.providers[0].ttl, ttl);
    assert_eq!(stored.providers[0].registrations, [registration("a"), registration("b")]);
    assert!(stored.index >= INDEX_RESERVE, "no index is given out twice");
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
    connection.execute("UPDATE rows SET state = x'01ff'", []).unwrap();
    drop(connection);
    let (_store, _, stored) = Store::open(dir.path()).unwrap();
    assert!(stored.moved_aside.is_some() && stored.histories.is_empty());
    assert!(!files_with(dir.path(), "damaged").is_empty());
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

#[test]
fn stored_values_keep_their_encoding() {
    let key = RowKey::Instance(InstanceId::parse("web-1").unwrap());
    assert_eq!(encode(&key).unwrap(), [1, 1, 5, b'w', b'e', b'b', b'-', b'1']);
    assert_eq!(encode(&RowState::Gone(Departure::Dropped)).unwrap(), [1, 1, 1]);
    let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let golden = "0100010377656203776562007f000001506400000d6170693a696e7374616e63657300";
    assert_eq!(hex(encode(&change("web").state).unwrap()), golden);
}
