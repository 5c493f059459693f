//! What happened on this agent: the last events, and a stream of new ones.

pub(crate) mod words;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use dunlin_api::Event;
use tokio::sync::broadcast;

/// Events that are remembered, and that a slow reader may lag behind.
const MAX_EVENTS: usize = 1024;

/// Kinds that are counted by themselves; the rest counts as `other`.
const MAX_KINDS: usize = 64;

/// A bounded log of events, in which the newest event replaces the oldest.
#[derive(Debug)]
pub struct EventLog {
    log: Mutex<Log>,
    news: broadcast::Sender<Arc<Event>>,
}

#[derive(Debug)]
struct Log {
    next: u64,
    events: VecDeque<Arc<Event>>,
    totals: BTreeMap<String, u64>,
}

impl Default for EventLog {
    fn default() -> Self {
        let log =
            Log { next: 1, events: VecDeque::with_capacity(MAX_EVENTS), totals: BTreeMap::new() };
        Self { log: Mutex::new(log), news: broadcast::channel(MAX_EVENTS).0 }
    }
}

impl EventLog {
    /// Adds an event; its id is set here.
    pub fn push(&self, event: Event) {
        let mut log = self.lock();
        let event = Arc::new(Event { id: log.next, ..event });
        log.next += 1;
        log.count(&event.kind);
        if log.events.len() == MAX_EVENTS {
            log.events.pop_front();
        }
        log.events.push_back(Arc::clone(&event));
        // Sent under the lock, so that ids arrive in order; an error means that nobody listens.
        let _ = self.news.send(event);
    }

    /// The remembered events after an id, and all that follow. A receiver that lags loses the oldest.
    #[must_use]
    pub fn follow(&self, after: u64) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let log = self.lock();
        let past = log.events.iter().filter(|e| e.id > after).cloned().collect();
        (past, self.news.subscribe())
    }

    /// How many events of each kind there have been since the start.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<String, u64> {
        self.lock().totals.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Log> {
        // No code panics while holding it; if one did, the log would still be whole.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn count(&mut self, kind: &str) {
        if let Some(total) = self.totals.get_mut(kind) {
            *total += 1;
            return;
        }
        let kind = if self.totals.len() < MAX_KINDS { kind } else { "other" };
        *self.totals.entry(kind.to_owned()).or_insert(0) += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(reason: &str) -> Event {
        Event {
            id: 0,
            time: String::new(),
            kind: "Tested".into(),
            node: "a".into(),
            service: None,
            instance: None,
            provider: None,
            reason: reason.into(),
        }
    }

    #[test]
    fn the_log_keeps_the_newest_and_resumes() {
        let log = EventLog::default();
        for n in 0..MAX_EVENTS + 10 {
            log.push(event(&n.to_string()));
        }
        let (past, _) = log.follow(0);
        assert_eq!(past.len(), MAX_EVENTS);
        assert_eq!(past[0].id, 11);
        let (past, mut news) = log.follow(MAX_EVENTS as u64 + 9);
        assert_eq!(past.len(), 1);
        log.push(event("new"));
        assert_eq!(news.try_recv().unwrap().reason, "new");
    }
}
