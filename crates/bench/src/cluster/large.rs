//! A commit of the largest size that a node may make, and one that is larger.

use std::time::Instant;

use anyhow::Result;
use dunlin_bench::rig::client::holds;
use dunlin_bench::rig::finding::{Finding, time};
use dunlin_bench::rig::statement::statement;
use serde_json::Value;

use super::setup::ClusterSetup;

/// Instances that one node may have.
const MAX_INSTANCES: usize = 10_000;
const TOO_MANY: usize = 188_000;

pub(super) fn large_commit(setup: &ClusterSetup) -> Result<Vec<Finding>> {
    let fleet = setup.fleet()?;
    let writer = &fleet.agents[0];
    let mut watches = Vec::new();
    for other in &fleet.agents[1..] {
        let mut watch = other.watch("all")?;
        watch.next_event()?;
        watches.push(watch);
    }
    let start = Instant::now();
    writer.client()?.expect("PUT", "/api/providers/large", set(MAX_INSTANCES).as_bytes())?;
    let acknowledged = start.elapsed();
    let mut events = Vec::new();
    for watch in &mut watches {
        events.push(watch.next_event()?.to_vec());
    }
    let told = start.elapsed();
    let ids = |event: &[u8]| event.windows(5).filter(|window| window == b"\"id\":").count();
    let is_whole = events.iter().all(|event| ids(event) == MAX_INSTANCES);
    let refused = writer.client()?.ask("PUT", "/api/providers/huge", set(TOO_MANY).as_bytes())?;
    let error: Value = serde_json::from_slice(&refused.body).unwrap_or_default();
    let (status, error) = (refused.status, error["error"].as_str().unwrap_or_default());
    let says_limit = (400..500).contains(&status) && holds(error.as_bytes(), b"10000");
    let whole = if is_whole { "whole everywhere" } else { "IN PARTS" };
    Ok(vec![
        Finding::new(
            "large-commit: 10,000 instances in one PUT (the limit of a node)",
            "equal after 1.6 s",
            "whole everywhere",
            format!(
                "{whole}; acknowledged after {}, told to watchers of all others after {}",
                time(acknowledged),
                time(told)
            ),
            is_whole,
        ),
        Finding::new(
            "large-commit: 188,000 instances in one PUT",
            "never equal, while health says all is well",
            "refused, naming the limit",
            format!("{status}: {error}"),
            says_limit,
        ),
    ])
}

/// A statement of instances of one service.
fn set(rows: usize) -> String {
    statement((0..rows).map(|row| format!("{{\"id\":\"i{row}\",\"service\":\"all\",\"port\":80}}")))
}
