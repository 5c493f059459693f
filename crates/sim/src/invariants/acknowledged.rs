//! Nothing that was acknowledged is lost: not by a crash, and not on the way to the others.

use std::collections::BTreeSet;
use std::time::Duration;

use dunlin_core::replica::RowKey;

use super::{Violation, live};
use crate::node::SimNode;
use crate::oracle::{Doubts, Oracle, Stamped, stamped};

const NAME: &str = "acknowledged";

/// After a restart a node has of its own rows what was acknowledged, or what a request without an answer left.
pub(crate) fn check_restart(
    now: Duration,
    node: usize,
    (acknowledged, doubts): &(Stamped, Doubts),
    own: &Stamped,
) -> Result<(), Violation> {
    let keys: BTreeSet<&RowKey> =
        acknowledged.keys().chain(doubts.keys()).chain(own.keys()).collect();
    for key in keys {
        let (found, known) = (own.get(key).copied(), acknowledged.get(key).copied());
        let is_doubted = doubts.get(key).is_some_and(|doubts| doubts.contains(&found));
        if found != known && !is_doubted {
            let what =
                format!("n{node} starts with {key:?} = {found:?}, acknowledged was {known:?}");
            return Err(Violation::new(NAME, now, what));
        }
    }
    Ok(())
}

/// After healing, every live node shows of every live node exactly what was acknowledged.
pub(super) fn check(now: Duration, nodes: &[SimNode], oracle: &Oracle) -> Result<(), Violation> {
    for origin in live(nodes) {
        let origin_index = origin.identity.index;
        if oracle.unanswered(origin_index) > 0 {
            let what = format!("n{origin_index} never answered a request");
            return Err(Violation::new(NAME, now, what));
        }
        let truth = oracle.acknowledged(origin_index);
        for node in live(nodes) {
            let found = stamped(node.shown.get(&origin.identity.id));
            if found != *truth {
                let what = format!(
                    "n{} shows of n{origin_index}: {}",
                    node.identity.index,
                    difference(&found, truth)
                );
                return Err(Violation::new(NAME, now, what));
            }
        }
    }
    Ok(())
}

fn difference(found: &Stamped, truth: &Stamped) -> String {
    let keys: BTreeSet<&RowKey> = found.keys().chain(truth.keys()).collect();
    let differing = keys.into_iter().filter(|key| found.get(*key) != truth.get(*key));
    let lines = differing.take(5).map(|key| {
        format!("{key:?} = {:?}, acknowledged was {:?}", found.get(key), truth.get(key))
    });
    lines.collect::<Vec<_>>().join("; ")
}
