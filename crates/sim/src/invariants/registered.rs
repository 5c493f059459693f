//! What a host's registry has in force and what its rows say is the same: no instance is left behind, none is missing.

use std::collections::BTreeSet;
use std::time::Duration;

use dunlin_core::model::InstanceId;
use dunlin_core::replica::{RowKey, RowState};

use super::{Violation, live};
use crate::client::LEASED;
use crate::node::SimNode;

pub(super) fn check(now: Duration, nodes: &[SimNode]) -> Result<(), Violation> {
    for node in live(nodes) {
        let Some(host) = node.host() else { continue };
        let registered: BTreeSet<InstanceId> = host.registry().instance_ids().cloned().collect();
        let present = |(key, entry): (RowKey, dunlin_core::replica::Entry)| match (key, entry.state)
        {
            (RowKey::Instance(id), RowState::Present(_)) => Some(id),
            _ => None,
        };
        let rows = host.replica().rows(node.identity.id);
        let stated: BTreeSet<InstanceId> = rows.filter_map(present).collect();
        let index = node.identity.index;
        if registered != stated {
            let what =
                format!("n{index} has registered {registered:?}, and its rows say {stated:?}");
            return Err(Violation::new("registered", now, what));
        }
        if registered.iter().any(|id| id.as_str() == LEASED) {
            let what = format!("n{index} still has an instance whose lease is long over");
            return Err(Violation::new("registered", now, what));
        }
    }
    Ok(())
}
