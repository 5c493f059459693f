//! Finds parts of the agent that hang: an agent that hangs is worse than one that is gone.
//!
//! Each part beats at least once a second. A thread of its own looks at the beats, since what hangs may be the
//! runtime. A part that is silent for long is reported as a problem and `/readyz` says no; one that stays silent is
//! not waited for: the whole agent starts itself anew, and answers from what it last stored.
//!
//! A disk that does not answer is reported in the same way, and waited for: starting anew would not mend it, and
//! lookups go on meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::handle::Shared;

/// Time between two looks.
const PERIOD: Duration = Duration::from_millis(500);
/// How long a part may be silent.
const SILENT: Duration = Duration::from_secs(5);
/// How long a batch may take to be stored before people are told.
const STORE_TIME: Duration = Duration::from_secs(10);
/// After which silence the agent starts anew.
const HOPELESS: Duration = Duration::from_secs(30);
/// A look that is late by more than this was itself held up: the host slept, or the process was stopped.
const PAUSE: Duration = Duration::from_secs(2);
/// The subject under which it is reported.
const SUBJECT: &str = "watchdog";

/// When parts of the agent were last seen alive. Times are milliseconds since the agent started.
#[derive(Debug)]
pub struct Vitals {
    start: Instant,
    beats: [AtomicU64; Part::ALL.len()],
    /// Since when a batch is being stored; 0 if none is.
    storing_since: AtomicU64,
    is_stalled: AtomicBool,
}

/// A part that beats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The loop that owns rows and catalog.
    Driver,
    /// The threads on which connections are served.
    Runtime,
    /// The thread that answers other agents' probes.
    Members,
}

impl Part {
    const ALL: [Self; 3] = [Self::Driver, Self::Runtime, Self::Members];

    fn as_str(self) -> &'static str {
        match self {
            Self::Driver => "the driver",
            Self::Runtime => "the runtime",
            Self::Members => "the members' thread",
        }
    }
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            beats: std::array::from_fn(|_| AtomicU64::new(u64::MAX)),
            storing_since: AtomicU64::new(0),
            is_stalled: AtomicBool::new(false),
        }
    }
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Finding {
    Well,
    Silent(String),
    Hopeless(String),
}

impl Vitals {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1).max(1)
    }

    /// A part lives. A part that has never beaten is not looked for.
    pub(crate) fn beat(&self, part: Part) {
        #[cfg(debug_assertions)]
        fault::hang_if_told(part);
        self.beats[part as usize].store(self.now(), Ordering::Relaxed);
    }

    /// A part has ended in good order.
    pub(crate) fn end(&self, part: Part) {
        self.beats[part as usize].store(u64::MAX, Ordering::Relaxed);
    }

    /// A batch is being stored, or is not any more.
    pub(crate) fn set_storing(&self, is_storing: bool) {
        let since = if is_storing { self.now() } else { 0 };
        self.storing_since.store(since, Ordering::Relaxed);
    }

    /// Whether some part hangs.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.is_stalled.load(Ordering::Relaxed)
    }

    /// What is to be said at a time, in milliseconds since the start.
    fn look(&self, now: u64) -> Finding {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        for part in Part::ALL {
            let beat = self.beats[part as usize].load(Ordering::Relaxed);
            let silent = now.saturating_sub(beat);
            let told = || format!("{} has not moved for {} s", part.as_str(), silent / 1000);
            if silent >= millis(HOPELESS) {
                return Finding::Hopeless(told());
            }
            if silent >= millis(SILENT) {
                return Finding::Silent(told());
            }
        }
        let since = self.storing_since.load(Ordering::Relaxed);
        let storing = now.saturating_sub(since);
        if since > 0 && storing >= millis(STORE_TIME) {
            let seconds = storing / 1000;
            return Finding::Silent(format!("the disk has not taken a batch for {seconds} s"));
        }
        Finding::Well
    }

    /// Nobody is to blame for the time that the whole process stood still.
    fn forgive(&self) {
        let now = self.now();
        for beat in &self.beats {
            if beat.load(Ordering::Relaxed) != u64::MAX {
                beat.store(now, Ordering::Relaxed);
            }
        }
        if self.storing_since.load(Ordering::Relaxed) > 0 {
            self.storing_since.store(now, Ordering::Relaxed);
        }
    }
}

/// The thread that looks. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Watchdog {
    _stop: mpsc::SyncSender<()>,
}

impl Watchdog {
    /// Starts looking. `start_anew` is called when nothing else helps; it does not return if it can help it.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start(shared: Arc<Shared>, start_anew: Option<fn()>) -> std::io::Result<Self> {
        // Nothing is ever sent: that the sender is gone is the sign to end.
        let (stop, stopped) = mpsc::sync_channel::<()>(1);
        let watch = move || {
            let mut last = Instant::now();
            while stopped.recv_timeout(PERIOD) == Err(mpsc::RecvTimeoutError::Timeout) {
                if last.elapsed() > PERIOD + PAUSE {
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
    match vitals.look(vitals.now()) {
        Finding::Well => {
            if vitals.is_stalled.swap(false, Ordering::Relaxed) {
                shared.problems.clear(SUBJECT);
                info!("all parts of the agent move again");
            }
        }
        Finding::Silent(what) => {
            if !vitals.is_stalled.swap(true, Ordering::Relaxed) {
                warn!(what, "a part of the agent hangs");
            }
            shared.problems.set(SUBJECT, what);
        }
        Finding::Hopeless(what) => {
            error!(what, "a part of the agent hangs; the agent starts itself anew");
            shared.problems.set(SUBJECT, what);
            vitals.is_stalled.store(true, Ordering::Relaxed);
            if let Some(start_anew) = start_anew {
                start_anew();
            }
        }
    }
}

/// Beats for the runtime until it ends.
pub(crate) async fn beat_for_runtime(shared: Arc<Shared>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        shared.vitals.beat(Part::Runtime);
    }
    shared.vitals.end(Part::Runtime);
}

/// Makes a part hang, for a test of what follows. Not in release builds.
#[cfg(debug_assertions)]
mod fault {
    use std::path::PathBuf;
    use std::sync::LazyLock;

    use super::Part;

    /// The file that tells which part is to hang.
    static FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("DUNLIN_FAULT").map(PathBuf::from));

    /// Never returns if the file names this part. Takes the file away, so that the agent that starts anew is well.
    pub(super) fn hang_if_told(part: Part) {
        let Some(file) = &*FILE else { return };
        let is_told = std::fs::read_to_string(file).is_ok_and(|name| name == part.as_str());
        if is_told && std::fs::remove_file(file).is_ok() {
            loop {
                std::thread::park();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(vitals: &Vitals, after: u64) -> Finding {
        vitals.look(vitals.now() + after)
    }

    #[test]
    fn a_part_that_never_began_or_has_ended_is_not_missed() {
        let vitals = Vitals::default();
        assert_eq!(look(&vitals, 100_000), Finding::Well);
        vitals.beat(Part::Driver);
        vitals.end(Part::Driver);
        assert_eq!(look(&vitals, 100_000), Finding::Well);
    }

    #[test]
    fn a_silent_part_is_reported_and_then_given_up() {
        let vitals = Vitals::default();
        vitals.beat(Part::Driver);
        vitals.beat(Part::Members);
        assert_eq!(look(&vitals, 4_000), Finding::Well);
        assert!(matches!(look(&vitals, 6_000), Finding::Silent(what) if what.contains("driver")));
        assert!(matches!(look(&vitals, 31_000), Finding::Hopeless(_)));
    }

    #[test]
    fn a_slow_disk_is_reported_and_never_given_up() {
        let vitals = Vitals::default();
        vitals.set_storing(true);
        assert_eq!(look(&vitals, 9_000), Finding::Well);
        assert!(matches!(look(&vitals, 600_000), Finding::Silent(what) if what.contains("disk")));
        vitals.set_storing(false);
        assert_eq!(look(&vitals, 600_000), Finding::Well);
    }
}
