//! Places of which there are only so many, shared out among clients.
//!
//! While there is room, everybody gets what they ask for. When all are taken, whoever holds the most gives
//! up the newest of theirs for one who holds fewer; who holds as many as anybody is refused. So one client,
//! however greedy, cannot lock out the others.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// Whom places are counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Client {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// The first 64 bits of an IPv6 address: one host has as many addresses of one network as it likes.
    V6(u64),
    /// A user of this host.
    User(u32),
}

impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4),
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h, ..] = v6.octets();
                Self::V6(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
        }
    }
}

/// All places of one kind.
#[derive(Debug)]
pub(crate) struct Shares {
    places: usize,
    /// Places that one client may have.
    per_client: usize,
    table: Mutex<Table>,
    refused: AtomicU64,
    displaced: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    taken: usize,
    /// The places of each client, the newest last.
    held: HashMap<Client, BTreeMap<u64, CancellationToken>>,
    /// How many each client holds, the greatest last.
    order: BTreeSet<(usize, Client)>,
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    shares: Arc<Shares>,
    client: Client,
    number: u64,
    lost: CancellationToken,
}

impl Place {
    /// Waits until the place has to be given up, if ever.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shares.lock().remove(self.client, self.number);
    }
}

impl Shares {
    pub(crate) fn new(places: usize) -> Arc<Self> {
        Self::with_most(places, places)
    }

    /// Places of which one client may have no more than these, even while there is room.
    pub(crate) fn with_most(places: usize, per_client: usize) -> Arc<Self> {
        let (refused, displaced) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { places, per_client, table: Mutex::default(), refused, displaced })
    }

    /// Takes a place; `None` when there is none for this client. Somebody else may lose theirs.
    pub(crate) fn take(self: &Arc<Self>, client: Client) -> Option<Place> {
        let mut table = self.lock();
        if table.held_by(client) >= self.per_client {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        if table.taken >= self.places {
            let greatest = table.greatest_above(client);
            let Some((number, greatest)) = greatest else {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return None;
            };
            if let Some(lost) = table.remove(greatest, number) {
                lost.cancel();
                self.displaced.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (number, lost) = table.add(client);
        Some(Place { shares: Arc::clone(self), client, number, lost })
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.lock().taken
    }

    /// How often somebody was refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How often somebody lost a place to another.
    pub(crate) fn displaced(&self) -> u64 {
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

    /// The newest place of whoever holds the most, if this client would still hold fewer with one more.
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
    use super::*;

    const fn client(last: u8) -> Client {
        Client::V4(Ipv4Addr::new(10, 0, 0, last))
    }

    #[test]
    fn the_greatest_gives_up_its_newest_place_and_equals_are_refused() {
        let shares = Shares::new(4);
        let greedy: Vec<_> = (0..4).map(|_| shares.take(client(1)).unwrap()).collect();
        assert!(shares.take(client(1)).is_none(), "it holds the most itself");
        let lost =
            |places: &[Place]| places.iter().map(|p| p.lost.is_cancelled()).collect::<Vec<_>>();
        let first = shares.take(client(2)).unwrap();
        assert_eq!(lost(&greedy), [false, false, false, true]);
        let second = shares.take(client(2)).expect("three against one");
        assert_eq!(lost(&greedy), [false, false, true, true]);
        assert!(shares.take(client(2)).is_none(), "two against two");
        assert!(shares.take(client(1)).is_none());
        let third = shares.take(client(3)).expect("none against two");
        assert_eq!((shares.taken(), shares.refused(), shares.displaced()), (4, 3, 3));
        drop((greedy, first, second, third));
        assert_eq!(shares.taken(), 0);
        let table = shares.lock();
        assert!(table.held.is_empty() && table.order.is_empty(), "nothing is kept: {table:?}");
    }

    #[test]
    fn a_client_gets_no_more_than_one_may_have_though_there_is_room() {
        let shares = Shares::with_most(9, 2);
        let held: Vec<_> = (0..2).map(|_| shares.take(client(1)).unwrap()).collect();
        assert!(shares.take(client(1)).is_none());
        assert!(shares.take(client(2)).is_some());
        drop(held);
        assert!(shares.take(client(1)).is_some());
    }

    #[test]
    fn a_client_is_an_address_or_an_ipv6_network() {
        let of = |text: &str| Client::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), client(1));
        assert_ne!(of("10.0.0.2"), client(1));
    }
}
