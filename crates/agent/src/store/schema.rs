//! The database's layout and how it grows.
//!
//! `application_id` says that a file is ours, `user_version` which schema it has. Migrations only go
//! forward, each in one transaction.

use std::path::Path;

use rusqlite::Connection;

use super::StoreError;

/// "DUNL", so that `file` and `sqlite3` can tell whose database it is.
const APPLICATION_ID: i64 = 0x4455_4e4c;

/// The steps from each schema to the next. Steps that were released never change.
const MIGRATIONS: [&str; 4] = [
    "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO meta VALUES ('index', 0);
    CREATE TABLE histories (
        origin BLOB PRIMARY KEY, head INTEGER NOT NULL, floor INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE rows (
        origin BLOB NOT NULL, key BLOB NOT NULL, version INTEGER NOT NULL, state BLOB NOT NULL,
        PRIMARY KEY (origin, key)
    ) WITHOUT ROWID;
    CREATE TABLE providers (provider TEXT PRIMARY KEY, ttl_ms INTEGER) WITHOUT ROWID;
    CREATE TABLE registrations (
        provider TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (provider, id)
    ) WITHOUT ROWID;
    ",
    // Node rows have gained a field. Every node states its own row again when it starts.
    "DELETE FROM rows WHERE key = x'0100';",
    // Keys and states become the very octets that agents exchange: the octet in front of them is removed. Nodes that
    // were forgotten leave a marker, and the agents that are known are stored for the next start.
    "
    CREATE TABLE bare_rows (
        origin BLOB NOT NULL, key BLOB NOT NULL, version INTEGER NOT NULL, state BLOB NOT NULL,
        PRIMARY KEY (origin, key)
    ) WITHOUT ROWID;
    INSERT INTO bare_rows SELECT origin, substr(key, 2), version, substr(state, 2) FROM rows;
    DROP TABLE rows;
    ALTER TABLE bare_rows RENAME TO rows;
    CREATE TABLE forgotten (origin BLOB PRIMARY KEY, up_to INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE peers (id BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
    ",
    // Registrations are stored only as far as the rows of this node do not hold them. Those that are stored already do
    // no harm, since rows take precedence. An older Dunlin would miss the others, so it must not open the file. For how
    // long nodes have been gone is counted on after a start. Beside its head, a history has ranges of commits that came
    // early.
    "
    CREATE TABLE gone (origin BLOB PRIMARY KEY, since_ms INTEGER NOT NULL) WITHOUT ROWID;
    ALTER TABLE histories ADD COLUMN early BLOB NOT NULL DEFAULT x'00';
    ",
];

/// The schema that this Dunlin writes.
pub(super) const SCHEMA: i64 = MIGRATIONS.len() as i64;

fn pragma(connection: &Connection, name: &str) -> Result<i64, rusqlite::Error> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

/// Sees that a database is ours and not newer, without changing it. Returns its schema.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let schema = pragma(connection, "user_version")?;
    let application = pragma(connection, "application_id")?;
    if application != APPLICATION_ID {
        let damage = format!("{} belongs to another program", path.display());
        return Err(StoreError::Damaged(damage));
    }
    if schema > SCHEMA {
        return Err(StoreError::Newer { path: path.to_owned(), found: schema, known: SCHEMA });
    }
    Ok(schema)
}

/// Makes a new database, or brings an older one up to date.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    // The first statement that reads the file finds out whether it is a database at all.
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let is_new = tables == 0 && pragma(connection, "application_id")? == 0;
    let schema = if is_new { 0 } else { check(connection, path)? };
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let done = usize::try_from(schema).unwrap_or_default();
    for (at, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", at as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}
