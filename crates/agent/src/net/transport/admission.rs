//! How many connections may be on their way to becoming streams, over all protocols.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// Connections that have not shown a certificate yet; a further one pushes the oldest of them out.
const MAX_UNAUTHENTICATED: usize = 64;
/// Connections of one address that are not open streams yet. For IPv6 this is the limit of a network of 64 bits,
/// since one host may have all of its addresses.
pub(super) const MAX_HANDSHAKES_PER_ADDRESS: usize = 8;

/// All connections that are not open streams yet.
#[derive(Debug, Default)]
pub(super) struct Admission {
    queue: Arc<Mutex<Queue>>,
    handshakes: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

/// The connections that have not shown a certificate, oldest first.
#[derive(Debug, Default)]
struct Queue {
    next: u64,
    waiting: BTreeMap<u64, CancellationToken>,
}

/// A connection that has not shown a certificate. Dropping it says that it has shown one, or has ended.
#[derive(Debug)]
pub(super) struct Unauthenticated {
    number: u64,
    pushed_out: CancellationToken,
    queue: Arc<Mutex<Queue>>,
}

/// One of the connections that an address may have before they are open streams. Dropping it frees the slot.
#[derive(Debug)]
pub(super) struct HandshakeSlot {
    address: IpAddr,
    handshakes: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

impl Admission {
    /// Takes a slot of this address; none when all of them are in use.
    pub(super) fn take_slot(&self, address: IpAddr) -> Option<HandshakeSlot> {
        let address = counted(address);
        let mut held = self.handshakes.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(address).or_insert(0);
        if *count >= MAX_HANDSHAKES_PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(HandshakeSlot { address, handshakes: Arc::clone(&self.handshakes) })
    }

    /// Lets one more connection in. The one that has waited longest is the likeliest never to show a certificate, so
    /// it makes room.
    pub(super) fn admit(&self) -> Unauthenticated {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        while queue.waiting.len() >= MAX_UNAUTHENTICATED
            && let Some((_, oldest)) = queue.waiting.pop_first()
        {
            oldest.cancel();
        }
        let (number, pushed_out) = (queue.next, CancellationToken::new());
        queue.next += 1;
        queue.waiting.insert(number, pushed_out.clone());
        Unauthenticated { number, pushed_out, queue: Arc::clone(&self.queue) }
    }
}

impl Unauthenticated {
    /// Cancelled when the connection has to make room for a newer one.
    pub(super) fn pushed_out(&self) -> &CancellationToken {
        &self.pushed_out
    }
}

impl Drop for Unauthenticated {
    fn drop(&mut self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.waiting.remove(&self.number);
    }
}

impl Drop for HandshakeSlot {
    fn drop(&mut self) {
        let mut held = self.handshakes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: a host with an IPv6 address may have all of its network of 64 bits.
fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_unauthenticated_connections_make_room_for_new_ones() {
        let admission = Admission::default();
        let mut all: Vec<Unauthenticated> = (0..200).map(|_| admission.admit()).collect();
        let is_pushed_out = |one: &Unauthenticated| one.pushed_out().is_cancelled();
        assert_eq!(all.iter().filter(|one| is_pushed_out(one)).count(), 200 - MAX_UNAUTHENTICATED);
        assert!(all[..200 - MAX_UNAUTHENTICATED].iter().all(is_pushed_out));
        all.truncate(199);
        let newest = admission.admit();
        assert!(!is_pushed_out(&all[200 - MAX_UNAUTHENTICATED]));
        drop((all, newest));
        assert!(admission.queue.lock().unwrap().waiting.is_empty());
    }

    #[test]
    fn an_address_has_its_slots_and_gets_them_back() {
        let admission = Admission::default();
        let (one, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let mut slots: Vec<HandshakeSlot> =
            (0..MAX_HANDSHAKES_PER_ADDRESS).filter_map(|_| admission.take_slot(one)).collect();
        assert_eq!(slots.len(), MAX_HANDSHAKES_PER_ADDRESS);
        assert!(admission.take_slot(one).is_none());
        assert!(admission.take_slot(other).is_some(), "another address has slots of its own");
        slots.pop();
        slots.extend(admission.take_slot(one));
        assert_eq!(slots.len(), MAX_HANDSHAKES_PER_ADDRESS);
        drop(slots);
        assert!(admission.handshakes.lock().unwrap().is_empty());
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let count = |text: &str| counted(text.parse().unwrap());
        assert_eq!(count("2001:db8::1"), count("2001:db8::ffff:0:0:2"));
        assert_ne!(count("2001:db8::1"), count("2001:db8:0:1::1"));
        assert_eq!(count("::ffff:127.0.0.1"), count("127.0.0.1"));
        assert_ne!(count("127.0.0.1"), count("127.0.0.2"));
    }
}
