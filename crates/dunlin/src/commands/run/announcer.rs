//! States one instance to the agent again and again, drains it, and takes it back.

use std::time::Duration;

use anyhow::Result;
use dunlin_api::{ProviderSet, Registration};
use dunlin_core::model::InstanceId;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::access::Agent;
use crate::commands::state::put_drain;
use crate::output::Printer;

/// Time between two statements of the instance.
const STATE_INTERVAL: Duration = Duration::from_secs(5);
/// How long the agent believes a statement, so that two may be lost.
const TTL: &str = "15s";
/// How long draining, and taking the instance back, may wait for the agent.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct Announcer {
    agent: Agent,
    id: InstanceId,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Announcer {
    pub(super) fn start(
        agent: Agent,
        id: InstanceId,
        registration: Registration,
        out: Printer,
    ) -> Self {
        let set = ProviderSet { instances: vec![registration], ttl: Some(TTL.to_owned()) };
        let path = provider_path(&id);
        let (stop, stopped) = oneshot::channel();
        let announcing = announce(agent.clone(), path, set, out, stopped);
        let task = tokio::spawn(announcing);
        Self { agent, id, stop, task }
    }

    /// Takes the instance out of answers, before the command is told to end.
    pub(super) async fn drain(&self, out: Printer) {
        match timeout(GOODBYE_TIMEOUT, put_drain(&self.agent, &self.id)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => out.note(format_args!("dunlin run: not drained: {error:#}")),
            Err(_) => out.note("dunlin run: not drained: the agent takes too long"),
        }
    }

    /// Ends the announcing and takes the instance back. Should the agent not hear of it, it forgets the
    /// instance when the time to live is over.
    pub(super) async fn stop(self) {
        // The receiver is gone only if the task is.
        let _ = self.stop.send(());
        let _ = self.task.await;
        let path = provider_path(&self.id);
        let _ = timeout(GOODBYE_TIMEOUT, self.agent.delete::<Value>(&path)).await;
    }
}

fn provider_path(id: &InstanceId) -> String {
    format!("/api/providers/run.{id}")
}

async fn announce(
    agent: Agent,
    path: String,
    set: ProviderSet,
    out: Printer,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut ticks = interval(STATE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trouble = Trouble::default();
    loop {
        tokio::select! {
            // A sender that was dropped means the same as a message.
            _ = &mut stopped => return,
            _ = ticks.tick() => {}
        }
        let stated: Result<Value> = tokio::select! {
            _ = &mut stopped => return,
            stated = agent.put(&path, &set) => stated,
        };
        if let Some(word) = trouble.word_about(stated.err(), Instant::now()) {
            out.note(word);
        }
    }
}

/// Reports that something is wrong when it begins, when it changes, when it has lasted for another
/// [`Trouble::REMIND_INTERVAL`], and when it ends.
#[derive(Default)]
struct Trouble {
    last: Option<(String, Instant)>,
}

impl Trouble {
    const REMIND_INTERVAL: Duration = Duration::from_secs(300);

    fn word_about(&mut self, error: Option<anyhow::Error>, now: Instant) -> Option<String> {
        let Some(error) = error else {
            let ended = self.last.take().is_some();
            return ended.then(|| "dunlin run: announced".to_owned());
        };
        let error = format!("{error:#}");
        let is_old = self.last.as_ref().is_some_and(|(known, told)| {
            *known == error && now.duration_since(*told) < Self::REMIND_INTERVAL
        });
        if is_old {
            return None;
        }
        let word = format!(
            "dunlin run: not announced, trying again every {}s: {error}",
            STATE_INTERVAL.as_secs()
        );
        self.last = Some((error, now));
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn trouble_is_told_once_and_so_is_its_end() {
        let start = Instant::now();
        let mut trouble = Trouble::default();
        assert_eq!(trouble.word_about(None, start), None);
        let word = trouble.word_about(Some(anyhow!("down")), start).unwrap();
        assert!(word.contains("not announced, trying again every 5s: down"), "{word}");
        assert_eq!(trouble.word_about(Some(anyhow!("down")), start), None);
        assert!(trouble.word_about(Some(anyhow!("id is taken")), start).is_some());
        let later = start + Trouble::REMIND_INTERVAL;
        assert!(trouble.word_about(Some(anyhow!("id is taken")), later).is_some());
        assert!(trouble.word_about(None, later).is_some());
        assert_eq!(trouble.word_about(None, later), None);
    }
}
