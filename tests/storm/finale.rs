//! The end of a storm, when the faults are over and all agents agree: a last change that every watch must be told of, and a
//! graceful stop without errors in the logs.

use std::sync::atomic::Ordering;

use anyhow::Result;
use dunlin_bench::rig::agent::Agent;
use dunlin_bench::rig::client::Client;

use super::ledger::SlotKind;
use super::stage::{Post, Stage};
use super::watches::LAST_WEIGHT;
use super::writers::registration;

/// The most lines of a log that a violation shows.
const MAX_LINES: usize = 5;

/// Makes a last change in each service that is watched.
pub(super) fn change_all(stage: &Stage) -> Result<()> {
    let mut clients: Vec<Client> = stage.posts.iter().map(Post::local).collect::<Result<_>>()?;
    for service in &stage.ledger.services {
        let slot = &stage.ledger.slots[service.slots[0]];
        if slot.kind == SlotKind::Single {
            let body = registration(slot, slot.begin(true), LAST_WEIGHT);
            let path = format!("/api/instances/{}", slot.id);
            clients[slot.node].expect("PUT", &path, body.as_bytes())?;
            slot.acknowledge();
        }
    }
    stage.orders.end_watches.store(true, Ordering::Relaxed);
    Ok(())
}

/// Searches the agents' logs for errors and panics.
fn read_logs(stage: &Stage, agents: &[Agent]) {
    for agent in agents {
        let log = agent.log();
        let is_bad = |line: &&str| line.contains(" ERROR ") || line.contains("panicked");
        let bad: Vec<&str> = log.lines().filter(is_bad).collect();
        if !bad.is_empty() {
            let first = bad[..bad.len().min(MAX_LINES)].join("\n");
            let (count, name) = (bad.len(), &agent.name);
            stage.violation(format!("{name} logged {count} errors, first:\n{first}"));
        }
    }
}

/// Stops all agents gracefully, and reads what they logged.
pub(super) fn end(stage: &Stage, agents: &mut [Agent]) -> Result<()> {
    for agent in agents.iter_mut() {
        let status = agent.stop()?;
        if !status.success() {
            stage.violation(format!("{} ended with {status}", agent.name));
        }
    }
    read_logs(stage, agents);
    Ok(())
}
