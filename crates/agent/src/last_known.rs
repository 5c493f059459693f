//! The last known state, read from disk when no agent runs.

use std::path::Path;
use std::time::SystemTime;

use dunlin_core::catalog::{Catalog, CatalogView, GuardSettings, Topology};
use dunlin_core::host::{StoredHistory, load, rows_of};
use dunlin_core::model::{NodeId, ZoneName};
use dunlin_core::replica::{Row, RowKey};

use crate::store::{StoreError, read_node_id, read_rows};

/// What an agent knew when it last wrote its database.
#[derive(Debug)]
pub struct LastKnown {
    /// All services.
    pub view: CatalogView,
    /// When the database was last written.
    pub written: SystemTime,
}

/// Reads the last known state in a data directory, changing nothing there.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn last_known(data_dir: &Path) -> Result<LastKnown, StoreError> {
    let (histories, written) = read_rows(data_dir)?;
    let own = read_node_id(data_dir)?;
    let own_zone = zone_of(own, &histories)
        .ok_or_else(|| StoreError::Damaged("the node's own row is missing".to_owned()))?;
    let topology = Topology { own_zone, nearest_zones: Vec::new() };
    let mut catalog = Catalog::new(topology, GuardSettings::default(), 0);
    load(&mut catalog, own, &histories);
    Ok(LastKnown { view: catalog.view().clone(), written })
}

fn zone_of(own: NodeId, histories: &[StoredHistory]) -> Option<ZoneName> {
    rows_of(histories).find_map(|(origin, key, state)| match (key, state.present()) {
        (RowKey::Node, Some(Row::Node(row))) if origin == own => Some(row.zone.clone()),
        _ => None,
    })
}
