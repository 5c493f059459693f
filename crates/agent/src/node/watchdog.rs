//! The watchdogs as parts of the node: the agent's own one, and what systemd's is told.

use std::io;
use std::sync::Arc;

use dunlin_shell::systemd;
use tracing::warn;

use super::foundation::Foundation;
use super::parts::{Part, Phase};
use crate::watchdog::{Watchdog, beat_for_runtime};

/// Beats for the runtime, and tells systemd that the agent is alive as long as no part of it hangs.
pub(super) fn beat(base: &Foundation) -> Part {
    let part = Part::new("beats", Phase::First);
    let (shared, stop) = (Arc::clone(&base.shared), part.stop.clone());
    part.tasks.spawn(beat_for_runtime(Arc::clone(&shared), stop.clone()));
    let Some(interval) = systemd::watchdog_interval() else { return part };
    part.tasks.spawn(async move {
        let mut ticks = tokio::time::interval(interval);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            if shared.vitals.is_stalled() {
                warn!("a part of the agent hangs; systemd is not told that the agent lives");
            } else {
                systemd::alive();
            }
        }
    });
    part
}

/// Starts the watchdog's thread. It ends last, since the end of another part may hang, too.
///
/// # Errors
/// When no thread can be started.
pub(super) fn start(base: &Foundation) -> io::Result<Part> {
    let part = Part::new("watchdog", Phase::Last);
    let thread = Watchdog::start(Arc::clone(&base.shared), base.settings.start_anew)?;
    let stop = part.stop.clone();
    part.tasks.spawn(async move {
        stop.cancelled().await;
        drop(thread);
    });
    Ok(part)
}
