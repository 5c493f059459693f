//! A limit that clients share fairly.
//!
//! While slots are free, each client gets the slots that it asks for. When all are taken, the client with the most slots loses
//! its newest one to a client that would still hold fewer with one more; a client that holds as many as any other is
//! refused. Hence no single client, however greedy, can lock out the others.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::Client;

/// A number of slots, shared among clients.
#[derive(Debug)]
pub struct FairLimit {
    max_slots: usize,
    max_per_client: usize,
    table: Mutex<Table>,
    refused: AtomicU64,
    displaced: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    taken: usize,
    /// The slots of each client, the newest last.
    held: HashMap<Client, BTreeMap<u64, CancellationToken>>,
    /// The number of slots of each client, the greatest last.
    order: BTreeSet<(usize, Client)>,
}

/// A slot that is taken until this value is dropped.
#[derive(Debug)]
pub struct Slot {
    limit: Arc<FairLimit>,
    client: Client,
    number: u64,
    lost: CancellationToken,
}

impl Slot {
    /// Returns once another client was given this slot's room; if that never happens, it never returns. The holder
    /// then has to end what it does and drop the slot.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.limit.lock().remove(self.client, self.number);
    }
}

impl FairLimit {
    /// A limit of which one client may take all slots while no other client asks for any.
    #[must_use]
    pub fn new(max_slots: usize) -> Arc<Self> {
        Self::with_client_limit(max_slots, max_slots)
    }

    /// A limit of which one client gets at most `max_per_client` slots, even while others are free.
    #[must_use]
    pub fn with_client_limit(max_slots: usize, max_per_client: usize) -> Arc<Self> {
        let (refused, displaced) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { max_slots, max_per_client, table: Mutex::default(), refused, displaced })
    }

    /// Takes a slot; `None` when there is none for this client. Another client may lose one of its own for it.
    pub fn take(self: &Arc<Self>, client: Client) -> Option<Slot> {
        let mut table = self.lock();
        if table.held_by(client) >= self.max_per_client {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        if table.taken >= self.max_slots {
            let Some((number, greatest)) = table.greatest_above(client) else {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return None;
            };
            if let Some(lost) = table.remove(greatest, number) {
                lost.cancel();
                self.displaced.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (number, lost) = table.add(client);
        Some(Slot { limit: Arc::clone(self), client, number, lost })
    }

    /// How many slots are taken.
    pub fn taken(&self) -> usize {
        self.lock().taken
    }

    /// How often a client was refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How often a client lost a slot to another.
    pub fn displaced(&self) -> u64 {
        self.displaced.load(Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        // No code panics while holding it; if one did, only the counts could be wrong.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn held_by(&self, client: Client) -> usize {
        self.held.get(&client).map_or(0, BTreeMap::len)
    }

    /// The newest slot of the client with the most, provided that this client would hold fewer with one more.
    fn greatest_above(&self, client: Client) -> Option<(u64, Client)> {
        let own = self.held_by(client);
        let (most, greatest) = *self.order.last()?;
        let (number, _) = self.held.get(&greatest)?.last_key_value()?;
        (most > own + 1).then_some((*number, greatest))
    }

    fn add(&mut self, client: Client) -> (u64, CancellationToken) {
        let (number, lost) = (self.next, CancellationToken::new());
        self.next += 1;
        let held = self.held.entry(client).or_default();
        self.order.remove(&(held.len(), client));
        held.insert(number, lost.clone());
        self.order.insert((held.len(), client));
        self.taken += 1;
        (number, lost)
    }

    fn remove(&mut self, client: Client, number: u64) -> Option<CancellationToken> {
        let held = self.held.get_mut(&client)?;
        let before = held.len();
        let lost = held.remove(&number)?;
        self.order.remove(&(before, client));
        if held.is_empty() {
            self.held.remove(&client);
        } else {
            self.order.insert((before - 1, client));
        }
        self.taken -= 1;
        Some(lost)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const fn client(last: u8) -> Client {
        Client::V4(Ipv4Addr::new(10, 0, 0, last))
    }

    #[test]
    fn the_greatest_gives_up_its_newest_slot_and_equals_are_refused() {
        let limit = FairLimit::new(4);
        let greedy: Vec<_> = (0..4).map(|_| limit.take(client(1)).unwrap()).collect();
        assert!(limit.take(client(1)).is_none(), "it holds the most itself");
        let lost = |slots: &[Slot]| slots.iter().map(|s| s.lost.is_cancelled()).collect::<Vec<_>>();
        let first = limit.take(client(2)).unwrap();
        assert_eq!(lost(&greedy), [false, false, false, true]);
        let second = limit.take(client(2)).expect("three against one");
        assert_eq!(lost(&greedy), [false, false, true, true]);
        assert!(limit.take(client(2)).is_none(), "two against two");
        assert!(limit.take(client(1)).is_none());
        let third = limit.take(client(3)).expect("none against two");
        assert_eq!((limit.taken(), limit.refused(), limit.displaced()), (4, 3, 3));
        drop((greedy, first, second, third));
        assert_eq!(limit.taken(), 0);
        let table = limit.lock();
        assert!(table.held.is_empty() && table.order.is_empty(), "nothing is kept: {table:?}");
    }

    #[test]
    fn a_client_gets_no_more_than_one_may_have_though_there_is_room() {
        let limit = FairLimit::with_client_limit(9, 2);
        let held: Vec<_> = (0..2).map(|_| limit.take(client(1)).unwrap()).collect();
        assert!(limit.take(client(1)).is_none());
        assert!(limit.take(client(2)).is_some());
        drop(held);
        assert!(limit.take(client(1)).is_some());
    }
}
