//! What survives a crash: rows with their heads, providers with their statements, in one SQLite file.
//!
//! A [`Batch`] is one transaction (WAL, `synchronous=FULL`): when [`Store::write`] has returned, it is on disk. One
//! thread writes. What the driver gathers meanwhile is the next batch (group commit).
//!
//! A file that is damaged, or not ours, is moved aside and never overwritten; one of a newer Dunlin is
//! refused.

mod histories;
mod schema;
#[cfg(test)]
mod tests;

use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dunlin_core::host::{Batch, ProviderWrite, Stored, StoredHistory, StoredProvider};
use dunlin_core::model::limits::MAX_CHECK_INTERVAL;
use dunlin_core::model::{NodeId, ProviderId, Timestamp};
use rusqlite::{Connection, OpenFlags, params};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

/// Batches that may wait for the writer; the driver sends one at a time.
const MAX_QUEUED_BATCHES: usize = 4;
/// Indexes reserved at each start, so that a restarted agent never gives out one twice.
const RESERVED_INDEXES: u64 = 1_000_000;
/// The file that holds the node's id.
const NODE_ID_FILE: &str = "node-id";
/// The oldest SQLite that is accepted: earlier versions could damage a file in WAL mode.
const MIN_SQLITE_VERSION: i32 = 3_051_003;

/// Why the store cannot be used, or did not take a batch.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another agent has the data directory.
    #[error("{path} is in use by another agent; stop that one, or give this one its own data_dir")]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// The directory or a file in it cannot be used.
    #[error("{path}: {source}")]
    Io {
        /// The directory or the file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The database was written by a newer Dunlin.
    #[error(
        "{path} has schema {found}, this Dunlin knows up to {known}; start the newer one, or move the file away"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// The schema of the database.
        found: i64,
        /// The newest schema that this Dunlin knows.
        known: i64,
    },
    /// The file is not a whole Dunlin database. On opening it is moved aside.
    #[error("not a whole Dunlin database: {0}")]
    Damaged(String),
    /// SQLite refused, e.g. since the disk is full.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The writer has stopped.
    #[error("the store is closed")]
    Closed,
}

type Job = (Batch, oneshot::Sender<Result<(), StoreError>>);

/// The open store. Dropping it waits for the writer to finish.
#[derive(Debug)]
pub struct Store {
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<std::thread::JoinHandle<()>>,
    /// Held so that no second agent takes the directory.
    _lock: File,
}

impl Store {
    /// The database's name in the data directory.
    pub const FILE: &str = "catalog.db";

    /// Takes the data directory, creating it if need be, and reads what is stored in it.
    ///
    /// # Errors
    /// When another agent has it, it cannot be written, or a newer Dunlin wrote it.
    pub fn open(data_dir: &Path) -> Result<(Self, NodeId, Stored), StoreError> {
        assert!(
            rusqlite::version_number() >= MIN_SQLITE_VERSION,
            "the bundled SQLite is one that could damage a file in WAL mode"
        );
        let at = |source| StoreError::Io { path: data_dir.to_owned(), source };
        std::fs::create_dir_all(data_dir).map_err(at)?;
        let lock = lock(data_dir)?;
        let node_id = read_or_make_node_id(data_dir)?;
        let path = data_dir.join(Self::FILE);
        let (connection, stored) = match open_and_load(&path) {
            Err(error) if is_damage(&error) => {
                let aside = move_aside(&path)?;
                let (connection, mut stored) = open_and_load(&path)?;
                stored.moved_aside = Some(format!("{error}; moved to {}", aside.display()));
                (connection, stored)
            }
            opened => opened?,
        };
        let (jobs, queue) = mpsc::channel(MAX_QUEUED_BATCHES);
        let span = tracing::Span::current();
        let writer = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || span.in_scope(|| write_all(connection, queue)))
            .map_err(at)?;
        Ok((Self { jobs: Some(jobs), writer: Some(writer), _lock: lock }, node_id, stored))
    }

    /// Stores a batch; when this returns without an error, it is on disk.
    ///
    /// # Errors
    /// When it could not be stored; then nothing of it was.
    pub async fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let answer = self.begin(batch).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Hands a batch to the writer. The receiver gets the result when the batch is on disk or was refused.
    ///
    /// # Errors
    /// When the writer has stopped.
    pub async fn begin(
        &self,
        batch: Batch,
    ) -> Result<oneshot::Receiver<Result<(), StoreError>>, StoreError> {
        let (done, answer) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or(StoreError::Closed)?;
        jobs.send((batch, done)).await.map_err(|_| StoreError::Closed)?;
        Ok(answer)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            // A panic in the writer has been reported by the panic hook already.
            let _ = writer.join();
        }
    }
}

/// Reads the rows in a data directory whose agent is not running, without changing anything.
/// Returns also when the database was last written.
///
/// # Errors
/// When there is no database, or it cannot be read.
pub fn read_rows(data_dir: &Path) -> Result<(Vec<StoredHistory>, SystemTime), StoreError> {
    let path = data_dir.join(Store::FILE);
    let at = |source| StoreError::Io { path: path.clone(), source };
    let mut written = std::fs::metadata(&path).and_then(|m| m.modified()).map_err(at)?;
    let wal = PathBuf::from(format!("{}-wal", path.display()));
    if let Ok(wal) = std::fs::metadata(wal).and_then(|m| m.modified()) {
        written = written.max(wal);
    }
    let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    schema::check(&connection, &path)?;
    Ok((histories::load(&connection)?, written))
}

fn lock(data_dir: &Path) -> Result<File, StoreError> {
    let path = data_dir.join("agent.lock");
    let at = |source| StoreError::Io { path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(at)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: data_dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(at(source)),
    }
}

/// The node's id in a data directory.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn read_node_id(data_dir: &Path) -> Result<NodeId, StoreError> {
    let path = data_dir.join(NODE_ID_FILE);
    let text = std::fs::read_to_string(&path);
    let id = text.and_then(|text| {
        NodeId::parse(text.trim()).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    });
    id.map_err(|source| StoreError::Io { path, source })
}

fn read_or_make_node_id(data_dir: &Path) -> Result<NodeId, StoreError> {
    let path = data_dir.join(NODE_ID_FILE);
    if path.exists() {
        return read_node_id(data_dir);
    }
    let at = |source| StoreError::Io { path: path.clone(), source };
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut random| io::Read::read_exact(&mut random, &mut bytes))
        .map_err(at)?;
    let id = NodeId::from_bytes(bytes);
    write_whole(&path, format!("{id}\n").as_bytes()).map_err(at)?;
    Ok(id)
}

/// Writes a small file so that after a crash it is there whole or not at all.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

pub(crate) fn is_damage(error: &StoreError) -> bool {
    match error {
        StoreError::Damaged(_) => true,
        StoreError::Sqlite(error) => is_torn(error) || is_foreign_value(error),
        StoreError::Locked { .. }
        | StoreError::Io { .. }
        | StoreError::Newer { .. }
        | StoreError::Closed => false,
    }
}

/// Whether SQLite cannot make sense of the file.
fn is_torn(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt))
}

/// Whether a column holds what is never written there: SQLite itself takes anything anywhere.
fn is_foreign_value(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
    )
}

/// Renames the database and what belongs to it, to a name that is not taken.
fn move_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let name = |suffix: &str, n: u32| {
        let end = if n == 0 { String::new() } else { format!(".{n}") };
        PathBuf::from(format!("{}.damaged-{seconds}{end}{suffix}", path.display()))
    };
    let n = (0..u32::MAX).find(|n| !name("", *n).exists()).unwrap_or(u32::MAX);
    for suffix in ["", "-wal", "-shm"] {
        let from = PathBuf::from(format!("{}{suffix}", path.display()));
        match std::fs::rename(&from, name(suffix, n)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::Io { path: from, source: error });
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(name("", n))
}

fn open_and_load(path: &Path) -> Result<(Connection, Stored), StoreError> {
    let mut connection = Connection::open(path)?;
    schema::prepare(&mut connection, path)?;
    let stored = load(&connection)?;
    let reserve = stored.index.saturating_add(RESERVED_INDEXES);
    connection.execute("UPDATE meta SET value = ? WHERE key = 'index'", [reserve])?;
    Ok((connection, stored))
}

pub(crate) fn load(connection: &Connection) -> Result<Stored, StoreError> {
    let index: u64 =
        connection.query_row("SELECT value FROM meta WHERE key = 'index'", [], |r| r.get(0))?;
    Ok(Stored {
        index,
        histories: histories::load(connection)?,
        providers: load_providers(connection)?,
        forgotten: histories::load_forgotten(connection)?,
        peers: load_peers(connection)?,
        gone: load_gone(connection)?,
        moved_aside: None,
    })
}

/// An empty database in memory.
pub(crate) fn in_memory() -> Result<Connection, StoreError> {
    let mut connection = Connection::open_in_memory()?;
    schema::prepare(&mut connection, Path::new(":memory:"))?;
    Ok(connection)
}

fn load_providers(connection: &Connection) -> Result<Vec<StoredProvider>, StoreError> {
    let mut providers = connection.prepare("SELECT provider, ttl_ms FROM providers ORDER BY 1")?;
    let mut bodies =
        connection.prepare("SELECT body FROM registrations WHERE provider = ? ORDER BY id")?;
    let mut stored = Vec::new();
    let mut found = providers.query([])?;
    while let Some(row) = found.next()? {
        let name: String = row.get(0)?;
        let ttl: Option<u64> = row.get(1)?;
        let ttl = ttl.map(time_to_live).transpose()?;
        let registrations = bodies
            .query_map([&name], |row| row.get::<_, String>(0))?
            .map(|body| serde_json::from_str(&body?).map_err(damaged))
            .collect::<Result<_, _>>()?;
        let provider = ProviderId::decode(&name).map_err(damaged)?;
        stored.push(StoredProvider { provider, ttl, registrations });
    }
    Ok(stored)
}

/// Reads a time to live. No provider may state more than a day, and a much longer time would overflow the clock.
fn time_to_live(millis: u64) -> Result<Duration, StoreError> {
    let ttl = Duration::from_millis(millis);
    if ttl > MAX_CHECK_INTERVAL {
        return Err(damaged(format!("a time to live of {millis} ms")));
    }
    Ok(ttl)
}

fn load_peers(connection: &Connection) -> Result<Vec<(NodeId, Vec<u8>)>, StoreError> {
    let mut peers = connection.prepare("SELECT id, body FROM peers ORDER BY 1")?;
    let peers = peers.query_map([], |row| Ok((NodeId::from_bytes(row.get(0)?), row.get(1)?)))?;
    Ok(peers.collect::<Result<_, _>>()?)
}

fn load_gone(connection: &Connection) -> Result<Vec<(NodeId, Timestamp)>, StoreError> {
    let mut gone = connection.prepare("SELECT origin, since_ms FROM gone ORDER BY 1")?;
    let gone = gone.query_map([], |row| {
        Ok((NodeId::from_bytes(row.get(0)?), Timestamp::from_millis(row.get(1)?)))
    })?;
    Ok(gone.collect::<Result<_, _>>()?)
}

fn write_all(mut connection: Connection, mut queue: mpsc::Receiver<Job>) {
    while let Some((batch, done)) = queue.blocking_recv() {
        // Nobody waits for the answer when the agent is stopping; the batch is stored all the same.
        let _ = done.send(write_batch(&mut connection, &batch));
    }
}

fn write_batch(connection: &mut Connection, batch: &Batch) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    for (origin, up_to) in &batch.forget {
        histories::forget(&transaction, *origin, *up_to)?;
    }
    for delta in &batch.deltas {
        histories::write_delta(&transaction, delta)?;
    }
    for write in &batch.histories {
        histories::write(&transaction, write)?;
    }
    for write in &batch.providers {
        write_provider(&transaction, write)?;
    }
    if let Some((origin, up_to)) = batch.purge {
        histories::purge(&transaction, origin, up_to)?;
    }
    if let Some(peers) = &batch.peers {
        write_peers(&transaction, peers)?;
    }
    if let Some(gone) = &batch.gone {
        write_gone(&transaction, gone)?;
    }
    transaction.commit()?;
    Ok(())
}

fn write_peers(connection: &Connection, peers: &[(NodeId, Vec<u8>)]) -> Result<(), StoreError> {
    connection.prepare_cached("DELETE FROM peers")?.execute([])?;
    let mut put =
        connection.prepare_cached("INSERT OR REPLACE INTO peers (id, body) VALUES (?, ?)")?;
    for (id, body) in peers {
        put.execute(params![id.as_bytes(), body])?;
    }
    Ok(())
}

fn write_gone(connection: &Connection, gone: &[(NodeId, Timestamp)]) -> Result<(), StoreError> {
    connection.prepare_cached("DELETE FROM gone")?.execute([])?;
    let mut put = connection.prepare_cached("INSERT INTO gone (origin, since_ms) VALUES (?, ?)")?;
    for (origin, since) in gone {
        put.execute(params![origin.as_bytes(), since.as_millis()])?;
    }
    Ok(())
}

fn write_provider(connection: &Connection, write: &ProviderWrite) -> Result<(), StoreError> {
    match write {
        ProviderWrite::Put(provider, ttl) => {
            let ttl = ttl.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX));
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO providers (provider, ttl_ms) VALUES (?, ?)",
                )?
                .execute(params![provider.to_string(), ttl])?;
        }
        ProviderWrite::PutRegistration(provider, registration) => {
            let body = serde_json::to_string(registration).map_err(damaged)?;
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO registrations (provider, id, body) VALUES (?, ?, ?)",
                )?
                .execute(params![provider.to_string(), registration.instance.id.as_str(), body])?;
        }
        ProviderWrite::RemoveRegistration(provider, id) => {
            connection
                .prepare_cached("DELETE FROM registrations WHERE provider = ? AND id = ?")?
                .execute(params![provider.to_string(), id.as_str()])?;
        }
        ProviderWrite::Remove(provider) => {
            for statement in [
                "DELETE FROM registrations WHERE provider = ?",
                "DELETE FROM providers WHERE provider = ?",
            ] {
                connection.prepare_cached(statement)?.execute([provider.to_string()])?;
            }
        }
    }
    Ok(())
}

fn damaged(error: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(error.to_string())
}
