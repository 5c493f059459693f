//! Finds parts of the agent that hang: an agent that hangs is worse than one that is gone.
//!
//! A part registers itself with [`Vitals::register`] and calls [`Beat::alive`] at least once a second. A thread of
//! its own looks at all parts, since what hangs may be the runtime. A part that is silent for 5 seconds is reported
//! as a problem, and `/readyz` says no. A part that stays silent for 30 seconds is given up: the whole agent starts
//! itself again and answers from what it last stored.
//!
//! A disk that does not answer is reported in the same way but never given up: another start would not help, and
//! lookups go on meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::handle::Shared;

/// Time between two looks at all parts.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long a part may be silent before people are told.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a part may be silent before the agent starts again.
const RESTART_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a batch may take to be stored before people are told.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);
/// A look that is late by more than this was itself held up: the host slept, or the process was stopped.
const MAX_LATENESS: Duration = Duration::from_secs(2);
/// Time between two beats of the runtime.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// How many parts are watched at a time. Further ones run unwatched, which is logged.
const MAX_PARTS: usize = 64;
/// What people are told about the threads on which connections are served.
const RUNTIME: &str = "the runtime";
/// The subject under which problems are reported.
const SUBJECT: &str = "watchdog";

/// The last beat of a part that has not begun, or has ended in good order.
const NOT_RUNNING: u64 = u64::MAX;

/// When parts of the agent were last seen alive. Times are milliseconds since the agent started.
#[derive(Debug)]
pub struct Vitals {
    start: Instant,
    parts: Mutex<Vec<Arc<Part>>>,
    /// Since when a batch is being stored; 0 if none is.
    storing_since: AtomicU64,
    is_stalled: AtomicBool,
}

/// A part that beats.
#[derive(Debug)]
struct Part {
    name: &'static str,
    last_beat: AtomicU64,
}

impl Part {
    fn is_running(&self) -> bool {
        self.last_beat.load(Ordering::Relaxed) != NOT_RUNNING
    }
}

/// A part's way to show that it lives. A part that drops it without [`Beat::end`], by a panic for example, goes on
/// being watched and is found silent.
#[derive(Debug)]
pub(crate) struct Beat {
    start: Instant,
    part: Arc<Part>,
}

impl Beat {
    /// Says that the part lives. A part that has never said so is not watched yet.
    pub(crate) fn alive(&self) {
        #[cfg(debug_assertions)]
        fault::hang_if_told(self.part.name);
        self.part.last_beat.store(millis_since(self.start), Ordering::Relaxed);
    }

    /// Says that the part has ended in good order.
    pub(crate) fn end(self) {
        self.part.last_beat.store(NOT_RUNNING, Ordering::Relaxed);
    }
}

fn millis_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(NOT_RUNNING - 1).max(1)
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            parts: Mutex::default(),
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
        millis_since(self.start)
    }

    /// Takes in a part to be watched, under the name by which people are told of it. Any number of parts may have
    /// the same name.
    pub(crate) fn register(&self, name: &'static str) -> Beat {
        let part = Arc::new(Part { name, last_beat: AtomicU64::new(NOT_RUNNING) });
        let mut parts = self.parts();
        // What does not run and has no handle any more can never run again.
        parts.retain(|part| part.is_running() || Arc::strong_count(part) > 1);
        if parts.len() < MAX_PARTS {
            parts.push(Arc::clone(&part));
        } else {
            warn!(name, most = MAX_PARTS, "too many parts; this one is not watched");
        }
        Beat { start: self.start, part }
    }

    fn parts(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Part>>> {
        // A list of parts is whole after each of its changes.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
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
        // One that is not running counts as seen in the future, so it is never silent.
        let silence = |part: &Arc<Part>| now.saturating_sub(part.last_beat.load(Ordering::Relaxed));
        let silences =
            self.parts().iter().map(|part| (silence(part), part.name)).collect::<Vec<_>>();
        let longest = silences.into_iter().rev().max_by_key(|(silence, _)| *silence);
        if let Some((silence, name)) = longest {
            let told = || format!("{name} has not moved for {} s", silence / 1000);
            if silence >= millis(RESTART_TIMEOUT) {
                return Finding::Hopeless(told());
            }
            if silence >= millis(SILENCE_TIMEOUT) {
                return Finding::Silent(told());
            }
        }
        let since = self.storing_since.load(Ordering::Relaxed);
        let storing = now.saturating_sub(since);
        if since > 0 && storing >= millis(STORE_TIMEOUT) {
            let seconds = storing / 1000;
            return Finding::Silent(format!("the disk has not taken a batch for {seconds} s"));
        }
        Finding::Well
    }

    /// Counts all silences from now on, since the whole process stood still and no part is to blame.
    fn forgive(&self) {
        let now = self.now();
        for part in self.parts().iter().filter(|part| part.is_running()) {
            part.last_beat.store(now, Ordering::Relaxed);
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
    let beat = shared.vitals.register(RUNTIME);
    let mut ticks = tokio::time::interval(BEAT_INTERVAL);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        beat.alive();
    }
    beat.end();
}

/// Makes a part hang, for a test of what follows. Not in release builds.
#[cfg(debug_assertions)]
mod fault {
    use std::path::PathBuf;
    use std::sync::LazyLock;

    /// The file that tells which part is to hang.
    static FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("DUNLIN_FAULT").map(PathBuf::from));

    /// Never returns if the file holds this part's name. Takes the file away, so that the agent that starts again
    /// is well.
    pub(super) fn hang_if_told(name: &str) {
        let Some(file) = &*FILE else { return };
        let is_told = std::fs::read_to_string(file).is_ok_and(|told| told == name);
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
        let driver = vitals.register("the driver");
        assert_eq!(look(&vitals, 100_000), Finding::Well);
        driver.alive();
        driver.end();
        assert_eq!(look(&vitals, 100_000), Finding::Well);
    }

    #[test]
    fn a_silent_part_is_reported_and_then_given_up() {
        let vitals = Vitals::default();
        let (driver, members) = (vitals.register("the driver"), vitals.register("members"));
        driver.alive();
        members.alive();
        assert_eq!(look(&vitals, 4_000), Finding::Well);
        assert!(matches!(look(&vitals, 6_000), Finding::Silent(what) if what.contains("driver")));
        assert!(matches!(look(&vitals, 31_000), Finding::Hopeless(_)));
    }

    #[test]
    fn a_part_that_ends_without_a_word_is_missed() {
        let vitals = Vitals::default();
        let part = vitals.register("the driver");
        part.alive();
        drop(part);
        assert!(
            matches!(look(&vitals, 31_000), Finding::Hopeless(what) if what.contains("driver"))
        );
    }

    #[test]
    fn the_part_that_is_silent_for_longest_is_named() {
        let vitals = Vitals::default();
        let parts = ["the driver", "a new part", "the runtime"].map(|name| vitals.register(name));
        for part in &parts {
            part.alive();
        }
        let now = vitals.now();
        parts[0].part.last_beat.store(now + 20_000, Ordering::Relaxed);
        parts[2].part.last_beat.store(now + 10_000, Ordering::Relaxed);
        let found = vitals.look(now + 31_000);
        assert!(
            matches!(&found, Finding::Hopeless(what) if what.contains("new part")),
            "{found:?}"
        );
    }

    #[test]
    fn parts_beyond_the_limit_run_unwatched_until_others_have_ended() {
        let vitals = Vitals::default();
        let mut parts: Vec<Beat> = (0..MAX_PARTS).map(|_| vitals.register("a part")).collect();
        parts.iter().for_each(Beat::alive);
        vitals.register("one too many").alive();
        assert_eq!(vitals.parts().len(), MAX_PARTS);
        parts.drain(..).for_each(Beat::end);
        vitals.register("a late one").alive();
        assert_eq!(vitals.parts().len(), 1, "those that ended have made room");
        assert!(matches!(look(&vitals, 6_000), Finding::Silent(what) if what.contains("late")));
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
