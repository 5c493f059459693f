//! Readers that wait for services to change.
//!
//! A watcher holds no queue: it is told *that* something changed, then reads the newest view. However
//! slow it is, it costs one flag.

use std::sync::{Arc, Mutex, PoisonError};

use dunlin_core::catalog::{Interest, SubscriptionId, Subscriptions};
use dunlin_core::model::ServiceName;
use tokio::sync::Notify;

/// All watchers of one agent.
#[derive(Debug)]
pub struct Watchers {
    subscriptions: Mutex<Subscriptions<Arc<Notify>>>,
}

/// One watcher; dropping it ends it.
#[derive(Debug)]
pub struct Watcher {
    watchers: Arc<Watchers>,
    id: SubscriptionId,
    changed: Arc<Notify>,
}

impl Watchers {
    /// Takes at most `limit` watchers at a time.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { subscriptions: Mutex::new(Subscriptions::new(limit)) }
    }

    /// Begins to watch. Read the view after this call, then wait. `None` at the limit.
    #[must_use]
    pub fn watch(self: &Arc<Self>, interest: Interest) -> Option<Watcher> {
        let changed = Arc::new(Notify::new());
        let id = self.lock().insert(interest, Arc::clone(&changed))?;
        Some(Watcher { watchers: Arc::clone(self), id, changed })
    }

    /// Wakes those who asked for any of these services, or for all. Call it after publishing.
    pub fn wake(&self, services: &[ServiceName]) {
        for changed in self.lock().interested(services) {
            changed.notify_one();
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Subscriptions<Arc<Notify>>> {
        // No code panics while holding it; if one did, the index would still be whole.
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    /// Waits for the next change; returns at once if one came since the last call.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.watchers.lock().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_before_the_wait_is_not_missed() {
        let watchers = Arc::new(Watchers::new(2));
        let web = ServiceName::parse("web").unwrap();
        let watcher = watchers.watch(Interest::Services(vec![web.clone()])).unwrap();
        watchers.wake(std::slice::from_ref(&web));
        watcher.changed().await;
        assert_eq!(watchers.count(), 1);
        drop(watcher);
        assert_eq!(watchers.count(), 0);
    }
}
