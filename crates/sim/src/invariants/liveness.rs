//! Some time after healing, everyone holds every running member for alive and every other one for down.

use std::time::Duration;

use dunlin_core::gossip::Liveness as State;
use dunlin_core::model::NodeId;

use super::{Violation, live};
use crate::node::{Condition, SimNode};

const NAME: &str = "liveness";
/// How long after healing members may still be mistaken: at least, and for each node. A newcomer that is told of a
/// member by a peer that has not heard of its end probes all members in turn, one a second, until it reaches that one.
const BOUND: Duration = Duration::from_secs(20);
const BOUND_PER_NODE: Duration = Duration::from_millis(1_300);

#[derive(Debug)]
pub(super) struct Liveness {
    ids: Vec<NodeId>,
    healed: Option<Duration>,
}

impl Liveness {
    pub(super) fn new(ids: Vec<NodeId>) -> Self {
        Self { ids, healed: None }
    }

    pub(super) fn healed(&mut self, now: Duration) {
        self.healed = Some(now);
    }

    pub(super) fn look(&self, now: Duration, nodes: &[SimNode]) -> Result<(), Violation> {
        let count = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        let bound = BOUND.max(BOUND_PER_NODE * count);
        if self.healed.is_none_or(|healed| now < healed + bound) {
            return Ok(());
        }
        self.finish(now, nodes)
    }

    pub(super) fn finish(&self, now: Duration, nodes: &[SimNode]) -> Result<(), Violation> {
        for node in live(nodes) {
            let Some(process) = &node.process else { continue };
            let index = node.identity.index;
            let mut states = vec![None; nodes.len()];
            for (peer, state) in process.members.membership().members() {
                if let Some(of) = self.ids.iter().position(|id| *id == peer.id) {
                    states[of] = Some(state);
                }
            }
            for other in nodes.iter().filter(|other| other.identity.index != index) {
                let state = states[other.identity.index];
                let is_running = other.condition == Condition::Running;
                let is_right = match state {
                    Some(State::Alive | State::Suspect) => is_running,
                    Some(State::Down) | None => !is_running,
                };
                if !is_right {
                    let what = format!(
                        "n{index} holds n{} for {state:?}; running: {is_running}",
                        other.identity.index
                    );
                    return Err(Violation::new(NAME, now, what));
                }
            }
        }
        Ok(())
    }
}
