//! No sound node is taken for one that misbehaves.

use std::time::Duration;

use dunlin_core::model::NodeId;

use super::Violation;

pub(super) fn misbehaved(now: Duration, node: usize, peer: NodeId, problem: &str) -> Violation {
    Violation::new("sound", now, format!("n{node} says that {peer} misbehaved: {problem}"))
}
