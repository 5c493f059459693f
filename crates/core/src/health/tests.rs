//! The guarantees of the scheduler, on a virtual clock.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::model::{CheckId, CheckKind, CheckRow, CheckSpec, CheckStatus, InstanceId, Timestamp};
use CheckStatus::{Critical, Passing, Warning};

#[allow(
    clippy::disallowed_methods,
    reason = "a start for the virtual clock; only differences count"
)]
pub(super) fn start_of_time() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

fn key(instance: &str, check: &str) -> CheckKey {
    let (instance, check) = (InstanceId::parse(instance), CheckId::parse(check));
    CheckKey { instance: instance.unwrap(), check: check.unwrap() }
}

fn tcp() -> CheckSpec {
    CheckSpec::with_defaults(CheckId::parse("c").unwrap(), CheckKind::Tcp { target: None })
}

fn with(kind: CheckKind) -> CheckSpec {
    CheckSpec { kind, ..tcp() }
}

fn ttl(seconds: u64) -> CheckSpec {
    with(CheckKind::Ttl { ttl: Duration::from_secs(seconds) })
}

fn alias(instance: &str) -> CheckSpec {
    with(CheckKind::Alias { instance: InstanceId::parse(instance).unwrap() })
}

/// A scheduler with a clock and the outputs so far.
struct Scene {
    scheduler: Scheduler,
    start: Instant,
    now: Instant,
    runs: Vec<(CheckKey, RunId)>,
    rows: BTreeMap<CheckKey, CheckRow>,
    reports: Vec<(CheckKey, bool)>,
    deregistered: Vec<InstanceId>,
}

impl Scene {
    fn new() -> Self {
        let now = start_of_time();
        Self {
            scheduler: Scheduler::new(7),
            start: now,
            now,
            runs: vec![],
            rows: BTreeMap::new(),
            reports: vec![],
            deregistered: vec![],
        }
    }

    fn wall(&self) -> Timestamp {
        let passed = self.now.duration_since(self.start).as_millis();
        Timestamp::from_millis(1_000_000_000 + u64::try_from(passed).unwrap())
    }

    fn upsert(&mut self, key: &CheckKey, spec: CheckSpec, stored: Option<CheckRow>) {
        let wall = self.wall();
        self.scheduler.upsert(self.now, wall, key.clone(), spec, stored);
        self.scheduler.set_instance(self.now, wall, &key.instance, true);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.scheduler.poll_output() {
            match output {
                HealthOutput::Run { key, run, .. } => {
                    assert!(!self.runs.iter().any(|(k, _)| *k == key), "two runs of {key:?}");
                    self.runs.push((key, run));
                }
                HealthOutput::Changed { key, row, status_changed } => {
                    self.rows.insert(key.clone(), row);
                    self.reports.push((key, status_changed));
                }
                HealthOutput::Cancel { run } => self.runs.retain(|(_, r)| *r != run),
                HealthOutput::DeregisterInstance { instance, .. } => {
                    self.deregistered.push(instance);
                }
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.scheduler.next_deadline()
            && due <= until
        {
            self.now = self.now.max(due);
            let wall = self.wall();
            self.scheduler.handle_deadline(self.now, wall);
            self.drain();
        }
        self.now = until;
    }

    /// Ends all runs that are under way with this status.
    fn end_runs(&mut self, status: CheckStatus, output: &str) {
        for (key, run) in std::mem::take(&mut self.runs) {
            let outcome = CheckOutcome { status, output: output.to_owned() };
            let wall = self.wall();
            self.scheduler.handle_result(self.now, wall, &key, run, outcome);
        }
        self.drain();
    }

    /// Waits for the next run and ends it. Returns the time that was waited.
    fn next_run(&mut self, status: CheckStatus) -> Duration {
        let begin = self.now;
        while self.runs.is_empty() {
            let due = self.scheduler.next_deadline().expect("a run is due");
            self.pass(due.saturating_duration_since(self.now));
        }
        self.end_runs(status, "said");
        self.now - begin
    }

    fn push(&mut self, key: &CheckKey, status: CheckStatus) -> Result<(), PushError> {
        let wall = self.wall();
        let pushed = self.scheduler.handle_push(self.now, wall, key, status, "pushed");
        self.drain();
        pushed
    }

    fn status(&self, key: &CheckKey) -> CheckStatus {
        self.rows[key].status
    }
}

fn stored(status: CheckStatus, since: u64) -> CheckRow {
    let since = Timestamp::from_millis(since);
    CheckRow { status, output: "before".into(), since, has_worked: true }
}

#[test]
fn a_new_check_runs_at_once_and_passes_at_its_first_success() {
    let mut scene = Scene::new();
    let key = key("web", "c");
    scene.upsert(&key, tcp(), None);
    assert_eq!(scene.next_run(Passing), Duration::ZERO);
    assert_eq!(scene.status(&key), Passing);
    assert!(scene.rows[&key].has_worked);
    assert!(scene.next_run(Passing) <= Duration::from_secs(5), "it finds its place in time");
    let waited = scene.next_run(Passing);
    assert!((4700..=5300).contains(&waited.as_millis()), "{waited:?}");
}

#[test]
fn a_first_failure_is_looked_at_again_quickly() {
    let mut scene = Scene::new();
    let key = key("web", "c");
    scene.upsert(&key, tcp(), None);
    scene.next_run(Passing);
    scene.next_run(Critical);
    assert_eq!(scene.status(&key), Passing, "one failure is not two");
    assert_eq!(scene.next_run(Critical), Duration::from_millis(500));
    assert_eq!(scene.status(&key), Critical);
}

#[test]
fn a_restored_check_keeps_its_status_and_runs_within_its_interval() {
    let mut scene = Scene::new();
    let key = key("web", "c");
    scene.upsert(&key, tcp(), Some(stored(Passing, 0)));
    assert!(scene.reports.is_empty(), "a restart changes nothing");
    assert!(scene.next_run(Passing) <= Duration::from_secs(5));
}

#[test]
fn restored_checks_are_spread_evenly() {
    let mut scene = Scene::new();
    for n in 0..1000 {
        scene.upsert(&key(&format!("i{n}"), "c"), tcp(), Some(stored(Passing, 0)));
    }
    for second in 1..=5_usize {
        scene.pass(Duration::from_secs(1));
        assert!((190 * second..=210 * second).contains(&scene.runs.len()));
    }
}

#[test]
fn checks_that_are_stated_together_are_spread_evenly_after_their_first_run() {
    let mut scene = Scene::new();
    for n in 0..1000 {
        scene.upsert(&key(&format!("i{n}"), "c"), tcp(), None);
    }
    scene.pass(Duration::ZERO);
    assert_eq!(scene.runs.len(), 1000, "new ones run at once");
    scene.end_runs(Passing, "");
    for second in 1..=5_usize {
        scene.pass(Duration::from_secs(1));
        let runs = scene.runs.len();
        assert!((190 * second..=210 * second).contains(&runs), "{runs} in {second} s");
    }
}

#[test]
fn the_same_settings_again_change_nothing_and_others_keep_the_status() {
    let mut scene = Scene::new();
    let key = key("web", "c");
    scene.upsert(&key, tcp(), None);
    scene.next_run(Passing);
    let due = scene.scheduler.next_deadline();
    scene.upsert(&key, tcp(), None);
    assert_eq!(scene.scheduler.next_deadline(), due);
    let faster = CheckSpec { interval: Duration::from_secs(1), ..tcp() };
    scene.upsert(&key, faster, None);
    assert_eq!(scene.status(&key), Passing);
    assert_eq!(scene.next_run(Passing), Duration::ZERO);
}

#[test]
fn a_result_of_a_run_that_no_longer_counts_is_ignored() {
    let mut scene = Scene::new();
    let key = key("web", "c");
    scene.upsert(&key, tcp(), None);
    scene.pass(Duration::ZERO);
    let late = scene.runs.clone();
    scene.scheduler.remove(&key);
    scene.drain();
    assert!(scene.runs.is_empty(), "it is given up");
    scene.runs = late;
    scene.end_runs(Passing, "late");
    assert!(scene.rows.is_empty());
    assert_eq!(scene.scheduler.next_deadline(), None);
}

#[test]
fn new_settings_give_the_old_run_up_before_a_new_one_begins() {
    let mut scene = Scene::new();
    let key = key("web", "c");
    scene.upsert(&key, tcp(), None);
    scene.pass(Duration::ZERO);
    let old = scene.runs[0].1;
    scene.upsert(&key, CheckSpec { timeout: Duration::from_secs(9), ..tcp() }, None);
    assert!(scene.runs.is_empty());
    scene.pass(Duration::ZERO); // the scene asserts that there is one run
    assert!(scene.runs[0].1 != old);
    scene.scheduler.recheck(scene.now, &key.instance);
    scene.drain();
    scene.pass(Duration::ZERO);
    assert_eq!(scene.runs.len(), 1);
}

#[test]
fn new_settings_do_not_end_a_hold() {
    let mut scene = Scene::new();
    let key = key("web", "c");
    flap(&mut scene, &key, CheckSpec { failures_before_critical: 1, ..tcp() });
    scene.upsert(&key, CheckSpec { failures_before_critical: 2, ..tcp() }, None);
    scene.next_run(Passing);
    assert_eq!(scene.status(&key), Critical);
}

#[test]
fn output_alone_is_reported_at_most_every_thirty_seconds_and_never_lost() {
    let mut scene = Scene::new();
    let key = key("web", "c");
    scene.upsert(&key, tcp(), None);
    scene.pass(Duration::ZERO);
    for n in 0..12 {
        scene.end_runs(Passing, &format!("said {n}"));
        scene.pass(Duration::from_secs(6));
    }
    let (status, output): (Vec<_>, Vec<_>) =
        scene.reports.iter().partition(|(_, changed)| *changed);
    assert_eq!(status.len(), 1);
    assert!((1..=2).contains(&output.len()), "{output:?}");
    scene.runs.clear();
    scene.pass(Duration::from_secs(31));
    assert_eq!(&*scene.rows[&key].output, "said 11");
}

#[test]
fn a_warning_holds_at_once() {
    let mut scene = Scene::new();
    let key = key("web", "c");
    scene.upsert(&key, tcp(), None);
    scene.next_run(Warning);
    assert_eq!(scene.status(&key), Warning);
}

#[test]
fn a_pushed_status_holds_for_its_ttl() {
    let mut scene = Scene::new();
    let key = key("web", "c");
    scene.upsert(&key, ttl(30), None);
    assert!(scene.runs.is_empty());
    scene.push(&key, Passing).unwrap();
    scene.pass(Duration::from_secs(29));
    assert_eq!(scene.status(&key), Passing);
    scene.push(&key, Warning).unwrap();
    scene.pass(Duration::from_secs(29));
    assert_eq!(scene.status(&key), Warning);
    scene.pass(Duration::from_secs(1));
    assert_eq!(scene.status(&key), Critical);
    assert!(scene.rows[&key].output.contains("nothing was pushed for 30s"));
}

#[test]
fn a_restored_ttl_check_keeps_its_status_for_one_ttl() {
    let mut scene = Scene::new();
    let key = key("web", "c");
    scene.upsert(&key, ttl(30), Some(stored(Passing, 0)));
    scene.pass(Duration::from_secs(29));
    assert!(scene.rows.is_empty());
    scene.pass(Duration::from_secs(1));
    assert_eq!(scene.status(&key), Critical);
}

#[test]
fn only_ttl_checks_take_pushes() {
    let mut scene = Scene::new();
    scene.upsert(&key("web", "c"), tcp(), None);
    assert!(matches!(scene.push(&key("web", "c"), Passing), Err(PushError::NotTtl { .. })));
    assert!(matches!(scene.push(&key("web", "x"), Passing), Err(PushError::Unknown(_))));
}

#[test]
fn an_alias_follows_the_worst_check_of_the_other_instance() {
    let mut scene = Scene::new();
    let follower = key("web", "alias");
    scene.upsert(&follower, alias("db"), None);
    assert!(scene.rows[&follower].output.contains("no instance db"));
    scene.upsert(&key("db", "a"), ttl(600), None);
    scene.push(&key("db", "a"), Passing).unwrap();
    assert_eq!(scene.status(&follower), Passing);
    scene.upsert(&key("db", "b"), ttl(600), None);
    scene.push(&key("db", "b"), Passing).unwrap();
    scene.push(&key("db", "a"), Critical).unwrap();
    assert_eq!(scene.status(&follower), Critical);
}

#[test]
fn a_restored_alias_waits_for_what_it_follows() {
    let mut scene = Scene::new();
    scene.upsert(&key("a", "alias"), alias("db"), Some(stored(Passing, 0)));
    scene.upsert(&key("db", "c"), tcp(), Some(stored(Passing, 0)));
    let wall = scene.wall();
    scene.scheduler.settle_aliases(scene.now, wall);
    scene.drain();
    assert!(scene.reports.iter().all(|(_, status_changed)| !status_changed));
}

#[test]
fn what_starts_up_is_looked_at_often_at_first() {
    let mut scene = Scene::new();
    scene.upsert(&key("web", "c"), tcp(), None);
    scene.next_run(Critical);
    for _ in 0..30 {
        assert_eq!(scene.next_run(Critical), Duration::from_millis(500));
    }
    scene.next_run(Critical);
    assert!(scene.next_run(Critical) > Duration::from_secs(4));
}

#[test]
fn an_alias_of_an_instance_without_checks_passes_until_it_is_gone() {
    let mut scene = Scene::new();
    let follower = key("web", "alias");
    let db = InstanceId::parse("db").unwrap();
    scene.upsert(&follower, alias("db"), None);
    let wall = scene.wall();
    scene.scheduler.set_instance(scene.now, wall, &db, true);
    scene.drain();
    assert_eq!(scene.status(&follower), Passing);
    scene.scheduler.set_instance(scene.now, wall, &db, false);
    scene.drain();
    assert_eq!(scene.status(&follower), Critical);
}

#[test]
fn a_circle_of_aliases_is_critical_and_says_so() {
    let mut scene = Scene::new();
    scene.upsert(&key("a", "alias"), alias("b"), None);
    scene.upsert(&key("b", "alias"), alias("a"), None);
    let wall = scene.wall();
    scene.scheduler.set_instance(scene.now, wall, &InstanceId::parse("b").unwrap(), true);
    scene.drain();
    assert!(scene.rows[&key("b", "alias")].output.contains("circle"));
}

#[test]
fn what_stays_critical_is_deregistered_in_time() {
    let mut scene = Scene::new();
    let key = key("web", "c");
    let after = Some(Duration::from_secs(60));
    scene.upsert(&key, CheckSpec { deregister_after: after, ..ttl(5) }, None);
    scene.push(&key, Passing).unwrap();
    scene.pass(Duration::from_secs(64));
    assert!(scene.deregistered.is_empty());
    scene.pass(Duration::from_secs(1));
    assert_eq!(scene.deregistered, std::slice::from_ref(&key.instance));
    scene.pass(Duration::from_secs(59));
    assert_eq!(scene.deregistered.len(), 1);
    scene.pass(Duration::from_secs(1));
    assert_eq!(scene.deregistered.len(), 2, "said again, should nobody have listened");
}

#[test]
fn what_works_and_is_only_held_is_not_deregistered() {
    let mut scene = Scene::new();
    let key = key("web", "c");
    let after = Some(Duration::from_secs(20));
    flap(
        &mut scene,
        &key,
        CheckSpec { failures_before_critical: 1, deregister_after: after, ..tcp() },
    );
    while scene.status(&key) == Critical {
        scene.next_run(Passing);
    }
    assert!(scene.deregistered.is_empty());
}

#[test]
fn nothing_is_deregistered_after_a_restart_before_it_could_prove_itself() {
    let mut scene = Scene::new();
    let key = key("web", "c");
    let spec = CheckSpec {
        interval: Duration::from_secs(300),
        deregister_after: Some(Duration::from_secs(60)),
        ..tcp()
    };
    scene.upsert(&key, spec, Some(stored(Critical, 0)));
    let waited = scene.next_run(Passing);
    assert!(scene.deregistered.is_empty(), "after {waited:?}");
    assert_eq!(scene.status(&key), Passing);
    scene.pass(Duration::from_secs(600));
    assert!(scene.deregistered.is_empty());
}

#[test]
fn a_clock_that_jumped_deregisters_nothing_at_once() {
    // since when it has been critical; between which seconds after the restart it is deregistered
    let now = 1_000_000_000;
    let table = [(0, 5, 8), (u64::MAX / 2, 59, 60), (now, 59, 60), (now - 20_000, 39, 40)];
    for (since, before, after) in table {
        let mut scene = Scene::new();
        let key = key("web", "c");
        let deregister_after = Some(Duration::from_secs(60));
        let row = Some(stored(Critical, since));
        scene.upsert(&key, CheckSpec { deregister_after, ..ttl(5) }, row);
        scene.pass(Duration::from_secs(before));
        assert!(scene.deregistered.is_empty(), "{since}");
        scene.pass(Duration::from_secs(after - before));
        assert_eq!(scene.deregistered.len(), 1, "{since}");
    }
}

/// Lets a check fail and recover until it is held although it works.
fn flap(scene: &mut Scene, key: &CheckKey, spec: CheckSpec) {
    scene.upsert(key, spec, None);
    for _ in 0..6 {
        scene.next_run(Passing);
        scene.next_run(Critical);
    }
    scene.next_run(Passing);
    assert_eq!(scene.status(key), Critical);
}

#[test]
fn what_flaps_is_held_critical_and_let_go() {
    let mut scene = Scene::new();
    let key = key("web", "c");
    flap(&mut scene, &key, CheckSpec { failures_before_critical: 1, ..tcp() });
    let mut passed = Duration::ZERO;
    while scene.status(&key) == Critical {
        passed += scene.next_run(Passing);
        assert!(passed < Duration::from_secs(400), "a hold ends");
    }
    assert!(passed > Duration::from_secs(20));
}

proptest! {
    /// Whatever happens, a check has one run at a time (asserted by the scene) and always a next one.
    #[test]
    fn an_active_check_always_has_a_next_deadline(
        results in prop::collection::vec((0..3_u8, 0..20_000_u64), 1..60)
    ) {
        let mut scene = Scene::new();
        let key = key("web", "c");
        scene.upsert(&key, tcp(), None);
        for (result, millis) in results {
            scene.pass(Duration::from_millis(millis));
            let status = [Passing, Warning, Critical][usize::from(result)];
            scene.end_runs(status, "said");
            prop_assert!(scene.scheduler.next_deadline().is_some());
        }
    }
}
