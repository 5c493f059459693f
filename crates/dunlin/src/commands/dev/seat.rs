//! One of the agents of `dunlin dev --nodes N`, by number: its name, its zone, its address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// The number of an agent; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat(u8);

impl Seat {
    /// Agents in one process.
    pub(super) const MAX_AGENTS: u8 = 9;

    /// This many agents, in order.
    pub(super) fn all(count: u8) -> impl Iterator<Item = Self> {
        (1..=count).map(Self)
    }

    /// The agent that is meant by `n2` or `z2`, if there is one.
    pub(super) fn find(word: &str, count: u8) -> Option<Self> {
        Self::all(count).find(|seat| word == seat.name() || word == seat.zone())
    }

    /// The node's name.
    pub(super) fn name(self) -> String {
        format!("n{}", self.0)
    }

    /// The node's zone, which it has for itself.
    pub(super) fn zone(self) -> String {
        format!("z{}", self.0)
    }

    /// The address of all its listeners, and by default of its services.
    pub(super) fn ip(self) -> IpAddr {
        Ipv4Addr::new(127, 0, 0, self.0).into()
    }

    /// The index of the agent among all.
    pub(super) fn index(self) -> usize {
        usize::from(self.0 - 1)
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.name(), self.zone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_found_by_its_node_or_its_zone() {
        let seat = Seat::find("z2", 3).unwrap();
        assert_eq!(Some(seat), Seat::find("n2", 3));
        assert_eq!((seat.index(), seat.ip().to_string()), (1, "127.0.0.2".to_owned()));
        assert_eq!(seat.to_string(), "n2 in z2");
        for word in ["z4", "z0", "2", "n", "N2", "n02", ""] {
            assert_eq!(Seat::find(word, 3), None, "{word}");
        }
    }
}
