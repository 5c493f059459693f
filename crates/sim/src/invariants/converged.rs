//! After healing, all live nodes know the same, to the octet.

use std::time::Duration;

use super::{Violation, live};
use crate::node::SimNode;

const NAME: &str = "converged";

/// Whether all live nodes' catalogs come to the same.
pub(super) fn has_converged(nodes: &[SimNode]) -> bool {
    let mut summaries =
        live(nodes).filter_map(|node| node.agent.as_ref()).map(|agent| agent.replica.summary());
    let first = summaries.next();
    summaries.all(|summary| Some(summary) == first)
}

pub(super) fn check(now: Duration, nodes: &[SimNode]) -> Result<(), Violation> {
    let Some(first) = live(nodes).next() else { return Ok(()) };
    for node in live(nodes) {
        for origin in nodes {
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
    let what = "equal rows and heads, but summaries differ".to_owned();
    Err(Violation::new(NAME, now, what))
}

/// A node's present rows, each as it is written.
fn rows(node: &SimNode, origin: dunlin_core::model::NodeId) -> Vec<String> {
    let Some(agent) = &node.agent else { return Vec::new() };
    let rows = agent.replica.rows(origin);
    let present =
        rows.filter(|(_, entry)| matches!(entry.state, dunlin_core::replica::RowState::Present(_)));
    present.map(|(key, entry)| format!("{key:?}: {entry:?}")).collect()
}

fn first_difference(mine: &[String], theirs: &[String]) -> String {
    let lacking = |a: &[String], b: &[String]| a.iter().find(|row| !b.contains(row)).cloned();
    format!("only here {:?}, only there {:?}", lacking(mine, theirs), lacking(theirs, mine))
}
