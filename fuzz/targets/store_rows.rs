//! A database with changed rows: it is read and shown, or considered damaged.
#![cfg_attr(fuzzing, no_main)]

use std::collections::BTreeMap;
use std::time::Instant;

use dunlin_agent::fuzzing;
use dunlin_core::host::{Host, HostSettings, Moment};
use dunlin_core::model::{NodeId, NodeName, NodePhase, NodeRow, Timestamp, ZoneName};
use rusqlite::Connection;
use rusqlite::types::Value;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|octets: &[u8]| run(octets));

thread_local! {
    static DATABASE: Connection = fuzzing::empty_database().expect("a database in memory");
}

/// The tables and their columns, each filled from the input.
const TABLES: [(&str, usize); 8] = [
    ("histories (origin, head, floor)", 3),
    ("rows", 4),
    ("providers", 2),
    ("registrations", 3),
    ("forgotten", 2),
    ("peers", 2),
    ("histories (origin, head, floor, early)", 4),
    ("gone", 2),
];
const OWN: NodeId = NodeId::from_bytes([0; 16]);

/// Rows one after another: an octet that chooses the table, then its values.
pub(crate) fn run(octets: &[u8]) {
    DATABASE.with(|database| {
        database.execute_batch("BEGIN").expect("a transaction begins");
        let mut input = Input(octets);
        while let Some(choice) = input.octet() {
            let (table, columns) = TABLES[usize::from(choice) % TABLES.len()];
            let values: Vec<Value> = (0..columns).map(|_| input.value()).collect();
            let places = vec!["?"; columns].join(", ");
            let sql = format!("INSERT OR REPLACE INTO {table} VALUES ({places})");
            let mut insert = database.prepare_cached(&sql).expect("the table is there");
            // Values that SQLite itself rejects cannot be in a database.
            drop(insert.execute(rusqlite::params_from_iter(values)));
        }
        start(database);
        database.execute_batch("ROLLBACK").expect("it ends");
    });
}

fn start(database: &Connection) {
    let stored = match fuzzing::load(database) {
        Ok(stored) => stored,
        Err(error) => return assert!(fuzzing::is_damage(&error), "it would not start: {error}"),
    };
    drop(fuzzing::known_peers(&stored));
    for provider in &stored.providers {
        let ends = provider.ttl.map(|ttl| Instant::now().checked_add(ttl));
        assert_ne!(ends, Some(None), "a time to live beyond all time");
    }
    let moment = Moment { now: Instant::now(), wall: Timestamp::default() };
    let host = Host::restore(moment, settings(), OWN, stored);
    let view = host.view();
    for service in view.services() {
        assert!(view.service(&service.name).is_some(), "{} is listed and not found", service.name);
    }
}

fn settings() -> HostSettings {
    let node = NodeRow {
        name: NodeName::parse("alpha").expect("a name"),
        zone: ZoneName::parse("eu1").expect("a zone"),
        address: [127, 0, 0, 1].into(),
        serves_dns: true,
        meta: BTreeMap::new(),
        phase: NodePhase::Active,
    };
    HostSettings::new(node)
}

/// Makes values of SQLite's types from octets.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn octet(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A kind, and what belongs to it: small number, large number, text or blob with a length in front, the own
    /// node's id, another's.
    fn value(&mut self) -> Value {
        let kind = self.octet().unwrap_or_default();
        let length = |input: &mut Self| {
            usize::from(input.octet().unwrap_or_default()) << 8
                | usize::from(input.octet().unwrap_or_default())
        };
        match kind % 7 {
            0 => Value::Integer(i64::from(self.octet().unwrap_or_default())),
            1 => Value::Integer(self.take(8).iter().fold(0, |sum, o| sum << 8 | i64::from(*o))),
            2 => {
                let length = length(self);
                Value::Text(String::from_utf8_lossy(self.take(length)).into_owned())
            }
            3 => {
                let length = length(self);
                Value::Blob(self.take(length).to_vec())
            }
            4 => Value::Blob(OWN.as_bytes().to_vec()),
            5 => Value::Blob(vec![1; 16]),
            _ => Value::Null,
        }
    }
}
