//! Finds parts of the agent that hang: an agent that hangs is worse than one that is gone.
//!
//! [`Vitals`](crate::vitals::Vitals) tells which part is silent. It is looked at by a thread rather than a task, since
//! it may be the runtime that hangs.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::handle::Shared;
use crate::vitals::Finding;

/// Time between two looks at all parts.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// A look that is late by more than this was itself held up: the host slept, or the process was stopped.
const MAX_LATENESS: Duration = Duration::from_secs(2);
/// Time between two beats of the runtime.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// What people are told about the threads on which connections are served.
const RUNTIME: &str = "the runtime";
/// The subject under which problems are reported.
const SUBJECT: &str = "watchdog";

/// The thread that looks at all parts. Dropping this value ends it.
#[derive(Debug)]
pub(crate) struct Watchdog {
    _stop: mpsc::SyncSender<()>,
}

impl Watchdog {
    /// Starts the thread. `start_anew` replaces the process by a new one; the thread calls it when a part is given up.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start(shared: Arc<Shared>, start_anew: Option<fn()>) -> std::io::Result<Self> {
        // Nothing is ever sent: the thread ends when the sender is dropped.
        let (stop, stopped) = mpsc::sync_channel::<()>(1);
        let watch = move || {
            let mut last = Instant::now();
            while stopped.recv_timeout(LOOK_INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
                if last.elapsed() > LOOK_INTERVAL + MAX_LATENESS {
                    shared.vitals.forgive();
                }
                last = Instant::now();
                act(&shared, start_anew);
            }
        };
        std::thread::Builder::new().name("watchdog".to_owned()).spawn(watch)?;
        Ok(Self { _stop: stop })
    }
}

fn act(shared: &Shared, start_anew: Option<fn()>) {
    let vitals = &shared.vitals;
    match vitals.look() {
        Finding::Well => {
            if vitals.set_stalled(false) {
                shared.problems.clear(SUBJECT);
                info!("all parts of the agent move again");
            }
        }
        Finding::Silent(what) => {
            if !vitals.set_stalled(true) {
                warn!(what, "a part of the agent hangs");
            }
            shared.problems.set(SUBJECT, what);
        }
        Finding::Hopeless(what) => {
            error!(what, "a part of the agent hangs; the agent starts itself anew");
            shared.problems.set(SUBJECT, what);
            vitals.set_stalled(true);
            if let Some(start_anew) = start_anew {
                start_anew();
            }
        }
    }
}

/// Beats for the runtime until the token is cancelled.
pub(crate) async fn beat_for_runtime(shared: Arc<Shared>, stop: CancellationToken) {
    let beat = shared.vitals.register(RUNTIME);
    let mut ticks = tokio::time::interval(BEAT_INTERVAL);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        beat.alive();
    }
    beat.end();
}
