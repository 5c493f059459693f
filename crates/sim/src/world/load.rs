//! The load: one request after the other, until all is healed.

use super::{Event, World};
use crate::invariants::Violation;
use crate::node::Condition;

impl World {
    /// One request to some node, and the next one later.
    pub(super) fn load(&mut self) -> Result<(), Violation> {
        let Some(period) = self.client.period else { return Ok(()) };
        let pause = period.mul_f64(2.0 * self.client.random.fraction());
        self.schedule(self.now + pause, Event::Load);
        let node = self.client.random.below(self.nodes.len());
        if self.nodes[node].condition != Condition::Running {
            return Ok(());
        }
        let is_idle = self.oracle.unanswered(node) == 0;
        match self.client.request(&self.nodes[node], is_idle, &mut self.stamps) {
            Some(request) => self.submit(node, request),
            None => Ok(()),
        }
    }
}
