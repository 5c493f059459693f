//! The parts of a running agent: how each is reloaded, and in which order they end.

use std::fmt;
use std::time::Duration;

use dunlin_core::config::Reloadable;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

/// How long the phases before the last one may take together before what is left of them is cut off.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// When a part ends while the agent stops. The next phase begins when all parts of the one before have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Clients and other agents are still served: they see what these parts do last, such as instances that drain.
    First,
    /// Nothing is pending any more, so the agent ends serving clients and other agents.
    Second,
    /// Nothing else of the agent runs.
    Last,
}

type OnReload = Box<dyn Fn(&Reloadable) + Send + Sync>;

/// A part of the agent: tasks, a token that ends them, and what else its file has the node do.
///
/// A part that is dropped ends too, but nobody waits for it. That happens to all parts when a later one cannot start.
pub(super) struct Part {
    /// What the log calls the part.
    name: &'static str,
    phase: Phase,
    /// Cancelled when the part is to end.
    pub(super) stop: CancellationToken,
    /// The part has ended when these have.
    pub(super) tasks: TaskTracker,
    on_reload: Vec<OnReload>,
    on_kill: Vec<Box<dyn Fn() + Send + Sync>>,
}

impl Part {
    pub(super) fn new(name: &'static str, phase: Phase) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        Self { name, phase, stop, tasks, on_reload: Vec::new(), on_kill: Vec::new() }
    }

    /// Has the part take over what concerns it in a new configuration, or read its files again.
    pub(super) fn on_reload(&mut self, reload: impl Fn(&Reloadable) + Send + Sync + 'static) {
        self.on_reload.push(Box::new(reload));
    }

    /// Does something before the token is cancelled when the part is to end as a crash would end it: without telling
    /// anybody.
    pub(super) fn on_kill(&mut self, kill: impl Fn() + Send + Sync + 'static) {
        self.on_kill.push(Box::new(kill));
    }

    /// Waits until nothing of the part runs. Its token must have been cancelled.
    async fn ended(self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The parts in the order in which they were started. Dropping it ends all of them.
#[derive(Debug, Default)]
pub(super) struct Parts(Vec<Part>);

impl Parts {
    /// Adds a part that has started; `None` stands for one that is switched off.
    pub(super) fn add(&mut self, part: impl Into<Option<Part>>) {
        self.0.extend(part.into());
    }

    /// Hands a new configuration to every part.
    pub(super) fn reload(&self, new: &Reloadable) {
        self.0.iter().flat_map(|part| &part.on_reload).for_each(|reload| reload(new));
    }

    /// Ends all parts in good order, phase by phase. Parts of one phase are told to end together.
    pub(super) async fn stop(mut self) {
        let deadline = Instant::now() + STOP_TIMEOUT;
        for phase in [Phase::First, Phase::Second, Phase::Last] {
            let ending: Vec<Part> = self.0.extract_if(.., |part| part.phase == phase).collect();
            ending.iter().for_each(|part| part.stop.cancel());
            for part in ending {
                let name = part.name;
                if phase == Phase::Last {
                    part.ended().await;
                } else if timeout_at(deadline, part.ended()).await.is_err() {
                    warn!(part = name, "part did not end in time; it is cut off");
                }
            }
        }
    }

    /// Ends all parts at once.
    pub(super) async fn kill(self) {
        for part in &self.0 {
            part.on_kill.iter().for_each(|kill| kill());
            part.stop.cancel();
        }
        for part in self.0 {
            part.ended().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What parts were told and did.
    #[derive(Debug, Clone, Default)]
    struct Story(Arc<Mutex<Vec<String>>>);

    impl Story {
        fn tell(&self, name: &str, what: &str) {
            self.0.lock().unwrap().push(format!("{name} {what}"));
        }

        fn text(&self) -> String {
            self.0.lock().unwrap().join(", ")
        }
    }

    /// A part that takes a while to end.
    fn part(name: &'static str, phase: Phase, millis: u64, story: &Story) -> Part {
        let mut part = Part::new(name, phase);
        let (stop, told) = (part.stop.clone(), story.clone());
        part.tasks.spawn(async move {
            stop.cancelled().await;
            told.tell(name, "ends");
            // pause: the time that the part takes to end, on a clock that does not wait
            tokio::time::sleep(Duration::from_millis(millis)).await;
            told.tell(name, "has ended");
        });
        let told = story.clone();
        part.on_kill(move || told.tell(name, "is killed"));
        part
    }

    fn parts(driver_millis: u64) -> (Parts, Story) {
        let (mut parts, story) = (Parts::default(), Story::default());
        parts.add(part("dns", Phase::Last, 1, &story));
        parts.add(Some(part("cluster", Phase::Second, 20, &story)));
        parts.add(part("driver", Phase::First, driver_millis, &story));
        parts.add(part("api", Phase::Second, 10, &story));
        parts.add(None);
        (parts, story)
    }

    const REST: &str = "cluster ends, api ends, api has ended, cluster has ended, dns ends";

    #[tokio::test(start_paused = true)]
    async fn parts_end_phase_by_phase_and_within_a_phase_together() {
        let (parts, story) = parts(5);
        parts.stop().await;
        let expected = format!("driver ends, driver has ended, {REST}, dns has ended");
        assert_eq!(story.text(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_does_not_end_in_time_is_left_and_the_others_still_end() {
        let (parts, story) = parts(1_000_000);
        parts.stop().await;
        let told = story.text();
        assert!(told.starts_with("driver ends, cluster ends, api ends"), "{told}");
        assert!(told.ends_with("dns ends, dns has ended"), "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn all_parts_are_killed_in_their_order_before_any_is_waited_for() {
        let (parts, story) = parts(1_000);
        parts.kill().await;
        let told = story.text();
        let expected = "dns is killed, cluster is killed, driver is killed, api is killed, ";
        assert!(told.starts_with(expected), "{told}");
        assert_eq!(told.matches("has ended").count(), 4, "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn parts_that_are_dropped_end() {
        let (parts, _) = parts(1);
        let tasks: Vec<_> = parts.0.iter().map(|part| part.tasks.clone()).collect();
        drop(parts);
        for tasks in tasks {
            tasks.close();
            tasks.wait().await;
        }
    }
}
