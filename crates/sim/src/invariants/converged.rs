//! After healing, all live nodes know the same, to the octet.

use std::time::Duration;

use dunlin_core::model::NodeId;
use dunlin_core::replica::{Entry, RowKey, RowState};

use super::{Violation, live};
use crate::node::{Condition, SimNode};

const NAME: &str = "converged";

/// Whether all live nodes have the same rows of all live nodes. Those that are gone are forgotten at different times.
pub(super) fn has_converged(nodes: &[SimNode]) -> bool {
    let told = |node: &SimNode| -> Vec<_> {
        let Some(host) = node.host() else { return Vec::new() };
        let of = |origin: &SimNode| {
            let told = host.replica().told(origin.identity.id);
            told.map(|(extent, digest)| (extent.clone(), digest))
        };
        live(nodes).map(of).collect()
    };
    let mut all = live(nodes).map(told);
    let first = all.next();
    all.all(|told| Some(told) == first)
}

pub(super) fn check(now: Duration, nodes: &[SimNode]) -> Result<(), Violation> {
    let Some(first) = live(nodes).next() else { return Ok(()) };
    for node in live(nodes) {
        for origin in compared(nodes, node, first) {
            let id = origin.identity.id;
            let (mine, theirs) = (rows(node, id), rows(first, id));
            let heads = (node.head(id), first.head(id));
            if mine != theirs || heads.0 != heads.1 {
                let what = format!(
                    "n{} and n{} differ in what they have of n{}: heads {:?} and {:?}, {} and {} rows; {}",
                    node.identity.index,
                    first.identity.index,
                    origin.identity.index,
                    heads.0,
                    heads.1,
                    mine.len(),
                    theirs.len(),
                    first_difference(&mine, &theirs),
                );
                return Err(Violation::new(NAME, now, what));
            }
        }
    }
    if has_converged(nodes) {
        return Ok(());
    }
    let what = "equal rows and heads, but digests differ".to_owned();
    Err(Violation::new(NAME, now, what))
}

/// The nodes whose rows two nodes must have alike: those that both know. A node that is gone is forgotten by one a
/// little earlier than by the other.
fn compared<'a>(
    nodes: &'a [SimNode],
    one: &'a SimNode,
    other: &'a SimNode,
) -> impl Iterator<Item = &'a SimNode> {
    let is_known = |node: &SimNode, origin: &SimNode| {
        node.host().is_some_and(|host| host.replica().knows(origin.identity.id))
    };
    let is_live = |origin: &SimNode| origin.condition == Condition::Running;
    nodes
        .iter()
        .filter(move |origin| is_live(origin) || (is_known(one, origin) && is_known(other, origin)))
}

/// A node's present rows.
fn rows(node: &SimNode, origin: NodeId) -> Vec<(RowKey, Entry)> {
    let Some(host) = node.host() else { return Vec::new() };
    let rows = host.replica().rows(origin);
    rows.filter(|(_, entry)| matches!(entry.state, RowState::Present(_))).collect()
}

fn first_difference(mine: &[(RowKey, Entry)], theirs: &[(RowKey, Entry)]) -> String {
    let lacking = |a: &[(RowKey, Entry)], b: &[(RowKey, Entry)]| {
        a.iter().find(|row| !b.contains(row)).map(|row| format!("{row:?}"))
    };
    format!("only here {:?}, only there {:?}", lacking(mine, theirs), lacking(theirs, mine))
}
