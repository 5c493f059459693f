//! Subscriptions to changes of services.
//!
//! An index from services to subscribers, so that a change wakes only the subscribers that asked for it. Each
//! subscriber has a token. What a token is, and how it is woken, is the caller's business.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::ServiceName;

/// The changes that a subscriber wants to learn of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interest {
    /// Changes of every service and every node.
    All,
    /// Changes of these services, whether they exist or not.
    Services(Vec<ServiceName>),
}

/// Identifies a subscription until it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(u64);

/// All subscribers, each with a token of the caller's.
#[derive(Debug)]
pub struct Subscriptions<T> {
    next: u64,
    limit: usize,
    subscribers: BTreeMap<SubscriptionId, (Interest, T)>,
    all: BTreeSet<SubscriptionId>,
    by_service: BTreeMap<ServiceName, BTreeSet<SubscriptionId>>,
}

impl<T> Subscriptions<T> {
    /// No subscriptions yet, and at most `limit` of them later.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let (subscribers, by_service) = (BTreeMap::new(), BTreeMap::new());
        Self { next: 0, limit, subscribers, all: BTreeSet::new(), by_service }
    }

    /// How many subscribers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subscribers.len()
    }

    /// Whether there is no subscriber.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// Adds a subscriber. `None` if the limit is reached.
    pub fn insert(&mut self, interest: Interest, token: T) -> Option<SubscriptionId> {
        if self.subscribers.len() >= self.limit {
            return None;
        }
        let id = SubscriptionId(self.next);
        self.next += 1;
        match &interest {
            Interest::All => {
                self.all.insert(id);
            }
            Interest::Services(names) => {
                for name in names {
                    self.by_service.entry(name.clone()).or_default().insert(id);
                }
            }
        }
        self.subscribers.insert(id, (interest, token));
        Some(id)
    }

    /// Removes a subscriber. Does nothing if it was removed before.
    pub fn remove(&mut self, id: SubscriptionId) {
        let Some((interest, _)) = self.subscribers.remove(&id) else { return };
        self.all.remove(&id);
        let Interest::Services(names) = interest else { return };
        for name in names {
            if let Some(ids) = self.by_service.get_mut(&name) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_service.remove(&name);
                }
            }
        }
    }

    /// The tokens of the subscribers that asked for any of these services, or for everything, each once.
    pub fn interested(&self, services: &[ServiceName]) -> impl Iterator<Item = &T> {
        let by_name = services.iter().filter_map(|name| self.by_service.get(name)).flatten();
        let ids: BTreeSet<&SubscriptionId> = by_name.chain(&self.all).collect();
        ids.into_iter().filter_map(|id| self.subscribers.get(id)).map(|(_, token)| token)
    }

    /// The tokens of all subscribers.
    pub fn tokens(&self) -> impl Iterator<Item = &T> {
        self.subscribers.values().map(|(_, token)| token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServiceName {
        ServiceName::parse(text).unwrap()
    }

    #[test]
    fn only_those_who_asked_are_woken() {
        let mut subscriptions = Subscriptions::new(10);
        subscriptions.insert(Interest::All, "all").unwrap();
        let both = Interest::Services(vec![name("web"), name("db")]);
        let id = subscriptions.insert(both, "both").unwrap();
        subscriptions.insert(Interest::Services(vec![name("db")]), "db").unwrap();
        let woken = |s: &Subscriptions<&'static str>, names: &[ServiceName]| -> Vec<&str> {
            s.interested(names).copied().collect()
        };
        assert_eq!(woken(&subscriptions, &[name("web")]), ["all", "both"]);
        assert_eq!(woken(&subscriptions, &[name("web"), name("db")]), ["all", "both", "db"]);
        assert_eq!(woken(&subscriptions, &[name("other")]), ["all"]);
        subscriptions.remove(id);
        assert_eq!(woken(&subscriptions, &[name("web")]), ["all"]);
    }

    #[test]
    fn there_is_a_limit() {
        let mut subscriptions = Subscriptions::new(1);
        let id = subscriptions.insert(Interest::All, ()).unwrap();
        assert!(subscriptions.insert(Interest::All, ()).is_none());
        subscriptions.remove(id);
        assert!(subscriptions.insert(Interest::All, ()).is_some());
    }
}
