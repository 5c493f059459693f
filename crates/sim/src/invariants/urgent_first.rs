//! Urgent news is never behind normal news on a link: what goes on the wire next is urgent if anything is.

use std::time::Duration;

use super::Violation;
use crate::node::SimNode;
use crate::stream::StreamId;

pub(super) fn on_wire(now: Duration, node: &SimNode, stream: StreamId) -> Result<(), Violation> {
    let Some(process) = &node.process else { return Ok(()) };
    let Some(to) = process.node_of(stream) else { return Ok(()) };
    if !process.host.has_urgent(to) {
        return Ok(());
    }
    let what = format!("n{} sends {to} normal news while urgent news waits", node.identity.index);
    Err(Violation::new("urgent_first", now, what))
}
