//! What a node shows, by following what it was told, is what its replica has: no change was forgotten to be told.

use std::time::Duration;

use dunlin_core::replica::RowState;

use super::{Violation, live};
use crate::node::SimNode;

const NAME: &str = "shown";

pub(super) fn check(now: Duration, nodes: &[SimNode]) -> Result<(), Violation> {
    for node in live(nodes) {
        let Some(host) = node.host() else { continue };
        for origin in nodes {
            let id = origin.identity.id;
            let present = host.replica().rows(id);
            let present = present.filter(|(_, entry)| matches!(entry.state, RowState::Present(_)));
            let has: Vec<_> = present.map(|(key, entry)| (key, entry.state)).collect();
            let shows: Vec<_> = node.shown.get(&id).cloned().into_iter().flatten().collect();
            if has != shows {
                let what = format!(
                    "n{} has {} rows of n{} and shows {}, or others",
                    node.identity.index,
                    has.len(),
                    origin.identity.index,
                    shows.len()
                );
                return Err(Violation::new(NAME, now, what));
            }
        }
    }
    Ok(())
}
