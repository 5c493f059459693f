//! Every queue keeps its limit.

use std::time::Duration;

use super::Violation;
use crate::node::SimNode;
use crate::stream::{BUFFER_OCTETS, URGENT_OCTETS};

const NAME: &str = "bounds";
/// One frame may go beyond a buffer's limit.
const FRAME_OCTETS: usize = 96 * 1024;
const RECENT_OCTETS: usize = 8 * 1024 * 1024;
/// Links: the exchange's limit for those that are taken, and those that it opens itself.
const DIALS: usize = 8;

pub(super) fn queued(now: Duration, node: usize, octets: usize) -> Result<(), Violation> {
    check(
        now,
        node,
        "octets queued on a link",
        octets,
        BUFFER_OCTETS + URGENT_OCTETS + FRAME_OCTETS,
    )
}

pub(super) fn look(now: Duration, node: &SimNode) -> Result<(), Violation> {
    let Some(process) = &node.process else { return Ok(()) };
    let Some(stats) = process.host.exchange_stats() else { return Ok(()) };
    let index = node.identity.index;
    let links = node.identity.exchange.links + DIALS;
    check(now, index, "links", stats.links, links)?;
    check(now, index, "octets of recent commits", stats.recent_octets, RECENT_OCTETS)?;
    check(now, index, "handshakes under way", process.openings(), 64)
}

fn check(
    now: Duration,
    node: usize,
    what: &str,
    found: usize,
    limit: usize,
) -> Result<(), Violation> {
    if found <= limit {
        return Ok(());
    }
    Err(Violation::new(NAME, now, format!("n{node}: {what}: {found}, at most {limit}")))
}
