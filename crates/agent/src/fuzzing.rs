//! Ways into this crate for the fuzz targets in `fuzz/`, where what they test is private. For nobody else.

use dunlin_core::gossip::Peer;
use dunlin_core::host::{self, Stored};
use rusqlite::Connection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::Handle;
use crate::http::Unbound;
use crate::store::{self, StoreError};

/// The HTTP API as it is behind every listener and the local socket.
#[derive(Clone)]
pub struct Api(Unbound);

impl Api {
    /// The API in front of this driver. Within a runtime; watches end when `closing` is cancelled.
    #[must_use]
    pub fn new(handle: Handle, closing: CancellationToken) -> Self {
        Self(Unbound::new(handle, closing))
    }

    /// Serves one connection until either side ends it.
    pub async fn serve<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.0.serve(stream).await;
    }
}

/// An empty database in memory, with the store's tables.
///
/// # Errors
/// As SQLite's own.
pub fn empty_database() -> Result<Connection, StoreError> {
    store::in_memory()
}

/// What the store reads from a database at a start.
///
/// # Errors
/// When something in it is not what the store writes.
pub fn load(database: &Connection) -> Result<Stored, StoreError> {
    store::load(database)
}

/// Whether the store moves a database aside, and starts with an empty one, after this error.
#[must_use]
pub fn is_damage(error: &StoreError) -> bool {
    store::is_damage(error)
}

/// The members that a start finds in the store.
#[must_use]
pub fn known_peers(stored: &Stored) -> Vec<(Peer, bool)> {
    host::known_members(&stored.peers)
}
