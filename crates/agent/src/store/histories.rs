//! Histories in the database: each row by its origin and key, as the octets that agents exchange.

use dunlin_core::host::{HistoryWrite, StoredHistory};
use dunlin_core::model::NodeId;
use dunlin_core::replica::{Delta, Entry, Extent, RowDecoder, RowKey, RowState, Version};
use rusqlite::{CachedStatement, Connection, params};

use super::{StoreError, damaged};

pub(super) fn load(connection: &Connection) -> Result<Vec<StoredHistory>, StoreError> {
    let mut heads =
        connection.prepare("SELECT origin, head, floor, early FROM histories ORDER BY 1")?;
    let mut rows =
        connection.prepare("SELECT key, version, state FROM rows WHERE origin = ? ORDER BY 1")?;
    let mut count = connection.prepare("SELECT count(*) FROM rows WHERE origin = ?")?;
    let mut histories = Vec::new();
    let mut found = heads.query([])?;
    while let Some(head) = found.next()? {
        let origin: [u8; 16] = head.get(0)?;
        let mut history = StoredHistory {
            origin: NodeId::from_bytes(origin),
            extent: extent_of(Version::new(head.get(1)?), &head.get::<_, Vec<u8>>(3)?)?,
            floor: Version::new(head.get(2)?),
            rows: Vec::new(),
        };
        // The room is reserved at once: a vector that grows leaves holes in memory between the rows, which stay.
        history.rows.reserve_exact(count.query_one([origin], |row| row.get(0))?);
        let mut decoder = RowDecoder::default();
        let mut found = rows.query([origin])?;
        while let Some(row) = found.next()? {
            let key = row.get_ref(0)?.as_blob().map_err(damaged)?;
            let state = row.get_ref(2)?.as_blob().map_err(damaged)?;
            let (key, state) = decoder.decode(key, state).map_err(damaged)?;
            let version = Version::new(row.get(1)?);
            history.rows.push((key, Entry { version, state }));
        }
        histories.push(history);
    }
    Ok(histories)
}

fn extent_of(head: Version, early: &[u8]) -> Result<Extent, StoreError> {
    let early = postcard::from_bytes(early).map_err(damaged)?;
    Extent::of_parts(head, early).ok_or_else(|| damaged("commits that are not in order"))
}

pub(super) fn load_forgotten(
    connection: &Connection,
) -> Result<Vec<(NodeId, Version)>, StoreError> {
    let mut found = connection.prepare("SELECT origin, up_to FROM forgotten ORDER BY 1")?;
    let found = found
        .query_map([], |row| Ok((NodeId::from_bytes(row.get(0)?), Version::new(row.get(1)?))))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// A statement that puts rows, and room for their octets.
struct Put<'a> {
    statement: CachedStatement<'a>,
    key: Vec<u8>,
    state: Vec<u8>,
}

impl<'a> Put<'a> {
    fn new(connection: &'a Connection, sql: &str) -> Result<Self, StoreError> {
        let statement = connection.prepare_cached(sql)?;
        Ok(Self { statement, key: Vec::new(), state: Vec::new() })
    }

    fn row(
        &mut self,
        origin: NodeId,
        key: &RowKey,
        version: Version,
        state: &RowState,
    ) -> Result<(), StoreError> {
        self.key.clear();
        key.encode(&mut self.key);
        self.state.clear();
        state.encode(&mut self.state);
        let row = params![origin.as_bytes(), self.key, version.as_u64(), self.state];
        self.statement.execute(row)?;
        Ok(())
    }
}

pub(super) fn write_delta(connection: &Connection, delta: &Delta) -> Result<(), StoreError> {
    let mut put = Put::new(
        connection,
        "INSERT INTO rows (origin, key, version, state) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET version = ?3, state = ?4 WHERE version < ?3",
    )?;
    for row in &delta.rows {
        put.row(delta.origin, &row.key, row.version, &row.state)?;
    }
    let mut head = connection.prepare_cached(
        "INSERT INTO histories (origin, head, floor) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET head = max(head, ?2), floor = max(floor, ?3)",
    )?;
    let (head_at, floor) = (delta.to.as_u64(), delta.floor.as_u64());
    head.execute(params![delta.origin.as_bytes(), head_at, floor])?;
    Ok(())
}

pub(super) fn write(connection: &Connection, write: &HistoryWrite) -> Result<(), StoreError> {
    let origin = write.origin.as_bytes();
    if write.replaces_all {
        connection.prepare_cached("DELETE FROM rows WHERE origin = ?")?.execute([origin])?;
    }
    let mut put = Put::new(
        connection,
        "INSERT OR REPLACE INTO rows (origin, key, version, state) VALUES (?, ?, ?, ?)",
    )?;
    for (key, entry) in &write.rows {
        put.row(write.origin, key, entry.version, &entry.state)?;
    }
    for key in &write.gone {
        remove(connection, write.origin, key)?;
    }
    let Some(extent) = &write.extent else {
        // Rows are loaded by their history, so there must be one.
        connection
            .prepare_cached(
                "INSERT OR IGNORE INTO histories (origin, head, floor) VALUES (?, 0, 0)",
            )?
            .execute([origin])?;
        return Ok(());
    };
    let early = postcard::to_stdvec(extent.early()).map_err(damaged)?;
    let sql = "INSERT OR REPLACE INTO histories (origin, head, floor, early) VALUES (?, ?, ?, ?)";
    connection.prepare_cached(sql)?.execute(params![
        origin,
        extent.head().as_u64(),
        write.floor.as_u64(),
        early
    ])?;
    Ok(())
}

pub(super) fn forget(
    connection: &Connection,
    origin: NodeId,
    up_to: Version,
) -> Result<(), StoreError> {
    for statement in ["DELETE FROM rows WHERE origin = ?", "DELETE FROM histories WHERE origin = ?"]
    {
        connection.prepare_cached(statement)?.execute([origin.as_bytes()])?;
    }
    connection
        .prepare_cached(
            "INSERT INTO forgotten (origin, up_to) VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET up_to = max(up_to, ?2)",
        )?
        .execute(params![origin.as_bytes(), up_to.as_u64()])?;
    Ok(())
}

pub(super) fn purge(
    connection: &Connection,
    origin: NodeId,
    up_to: Version,
) -> Result<(), StoreError> {
    let mut gone = Vec::new();
    let mut decoder = RowDecoder::default();
    {
        let mut rows = connection
            .prepare_cached("SELECT key, state FROM rows WHERE origin = ? AND version <= ?")?;
        let mut found = rows.query(params![origin.as_bytes(), up_to.as_u64()])?;
        while let Some(row) = found.next()? {
            let key = row.get_ref(0)?.as_blob().map_err(damaged)?;
            let state = row.get_ref(1)?.as_blob().map_err(damaged)?;
            let (key, state) = decoder.decode(key, state).map_err(damaged)?;
            if matches!(state, RowState::Gone(_)) {
                gone.push(key);
            }
        }
    }
    for key in &gone {
        remove(connection, origin, key)?;
    }
    connection
        .prepare_cached("UPDATE histories SET floor = max(floor, ?2) WHERE origin = ?1")?
        .execute(params![origin.as_bytes(), up_to.as_u64()])?;
    Ok(())
}

fn remove(connection: &Connection, origin: NodeId, key: &RowKey) -> Result<(), StoreError> {
    let mut octets = Vec::new();
    key.encode(&mut octets);
    connection
        .prepare_cached("DELETE FROM rows WHERE origin = ? AND key = ?")?
        .execute(params![origin.as_bytes(), octets])?;
    Ok(())
}
