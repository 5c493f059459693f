//! Readers that wait for services to change.
//!
//! A watcher has no queue: it learns only *that* something changed, and then reads the newest view. A watcher that is
//! slow therefore costs no more than one flag.

use std::sync::{Arc, Mutex, PoisonError};

use dunlin_core::catalog::{Interest, SubscriptionId, Subscriptions};
use dunlin_core::model::ServiceName;
use tokio::sync::Notify;

/// All watchers of one agent.
#[derive(Debug)]
pub struct Watchers {
    subscriptions: Mutex<Subscriptions<Arc<Notify>>>,
}

/// A reader that waits for changes. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watcher {
    watchers: Arc<Watchers>,
    id: SubscriptionId,
    changed: Arc<Notify>,
}

impl Watchers {
    /// Without any watchers yet; there may be `limit` at a time.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { subscriptions: Mutex::new(Subscriptions::new(limit)) }
    }

    /// Begins to watch; `None` at the limit. The caller reads the view after this call, and then waits, so that it
    /// misses no change.
    #[must_use]
    pub fn watch(self: &Arc<Self>, interest: Interest) -> Option<Watcher> {
        let changed = Arc::new(Notify::new());
        let id = self.lock().insert(interest, Arc::clone(&changed))?;
        Some(Watcher { watchers: Arc::clone(self), id, changed })
    }

    /// Wakes the watchers of any of these services, and those of all services. Call it after publishing the view.
    pub fn wake(&self, services: &[ServiceName]) {
        for changed in self.lock().interested(services) {
            changed.notify_one();
        }
    }

    /// The number of watchers.
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
    /// Waits for the next change. Returns at once if there was one since the last call.
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
