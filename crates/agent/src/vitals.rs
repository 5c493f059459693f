//! When the parts of the agent were last seen alive, and what follows when one is silent.
//!
//! A part registers itself with [`Vitals::register`] and calls [`Beat::alive`] at least once a second. A part that is
//! silent for 5 seconds is reported as a problem, and `/readyz` says no. A part that stays silent for 30 seconds is
//! given up: the whole agent starts itself again and answers from what it last stored.
//!
//! A disk that does not answer is reported in the same way but never given up: another start would not help, and
//! lookups go on meanwhile.
//!
//! The thread that looks, and acts on what it finds, is the [watchdog](crate::watchdog).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

/// How long a part may be silent before people are told.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a part may be silent before the agent starts again.
const RESTART_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a batch may take to be stored before people are told.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of parts that are watched at a time. Further ones run unwatched, which is logged.
const MAX_PARTS: usize = 64;

/// Stands for the last beat of a part that has not begun, or has ended in good order.
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

/// A part that is watched.
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

/// The handle by which a part shows that it is alive. A part that drops it without [`Beat::end`], by a panic for
/// example, is still watched and found silent.
#[derive(Debug)]
pub(crate) struct Beat {
    start: Instant,
    part: Arc<Part>,
}

impl Beat {
    /// Says that the part is alive. A part is watched from its first call of this on.
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
pub(crate) enum Finding {
    /// Each part has beaten lately, and the disk takes what it is given.
    Well,
    /// A part or the disk is silent, as the text says; people have to be told.
    Silent(String),
    /// The part that the text names has been silent for so long that only another start helps.
    Hopeless(String),
}

impl Vitals {
    fn now(&self) -> u64 {
        millis_since(self.start)
    }

    /// Adds a part to those that are watched. Problems name it by `name`, which several parts may share.
    pub(crate) fn register(&self, name: &'static str) -> Beat {
        let part = Arc::new(Part { name, last_beat: AtomicU64::new(NOT_RUNNING) });
        let mut parts = self.parts();
        // A part that does not run and has lost its handle can never run again.
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

    /// Notes whether a batch is being stored.
    pub(crate) fn set_storing(&self, is_storing: bool) {
        let since = if is_storing { self.now() } else { 0 };
        self.storing_since.store(since, Ordering::Relaxed);
    }

    /// Whether some part hangs.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.is_stalled.load(Ordering::Relaxed)
    }

    /// Notes whether some part hangs. Returns what was noted before.
    pub(crate) fn set_stalled(&self, is_stalled: bool) -> bool {
        self.is_stalled.swap(is_stalled, Ordering::Relaxed)
    }

    /// Looks at all parts.
    pub(crate) fn look(&self) -> Finding {
        self.look_at(self.now())
    }

    /// What is to be said at a time, in milliseconds since the start.
    fn look_at(&self, now: u64) -> Finding {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        // The last beat of a part that is not running lies in the future, so the part is never silent.
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

    /// Makes all silences begin now: the whole process stood still, and no part is to blame for it.
    pub(crate) fn forgive(&self) {
        let now = self.now();
        for part in self.parts().iter().filter(|part| part.is_running()) {
            part.last_beat.store(now, Ordering::Relaxed);
        }
        if self.storing_since.load(Ordering::Relaxed) > 0 {
            self.storing_since.store(now, Ordering::Relaxed);
        }
    }
}

/// Makes a part hang, for a test of what follows. Release builds do not contain it.
#[cfg(debug_assertions)]
mod fault {
    use std::path::PathBuf;
    use std::sync::LazyLock;

    /// The file that names the part that is to hang.
    static FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("DUNLIN_FAULT").map(PathBuf::from));

    /// Never returns if the file holds this part's name. Removes the file, so that the next start of the agent is
    /// not affected.
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
        vitals.look_at(vitals.now() + after)
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
        let found = vitals.look_at(now + 31_000);
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
