//! A node that is gone for longer than it is remembered is forgotten by all, and all that run are known to all.

use std::time::Duration;

use super::{Violation, live};
use crate::node::{Condition, SimNode};

pub(super) fn check(now: Duration, nodes: &[SimNode]) -> Result<(), Violation> {
    // One that is alone cannot say which nodes are gone: the last known good holds.
    let is_alone = live(nodes).count() < 2;
    for node in live(nodes).filter(|_| !is_alone) {
        let Some(host) = node.host() else { continue };
        for other in nodes {
            let is_known = host.replica().knows(other.identity.id);
            let is_running = other.condition == Condition::Running;
            let is_remembered = node.identity.reap_after > FOREVER;
            if is_known != is_running && !(is_remembered && is_known) && !is_new(other) {
                let what = format!(
                    "n{} knows n{}: {is_known}; it runs: {is_running}",
                    node.identity.index, other.identity.index
                );
                return Err(Violation::new("forgotten", now, what));
            }
        }
    }
    Ok(())
}

/// Runs are shorter than this.
const FOREVER: Duration = Duration::from_secs(600);

/// Whether a node never ran.
fn is_new(node: &SimNode) -> bool {
    node.life == 0
}
