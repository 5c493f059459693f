//! What was registered and when, and what each agent may therefore answer about it.
//!
//! Every instance that is ever registered has a slot with an address of its own and, with each change, a new port.
//! Therefore an answer tells which state of which instance it shows. A slot has one writer, so its states have an order.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::chronicle::{Asked, Chronicle, RECOVERY, SPREAD};

/// States of a slot that are remembered; the oldest is forgotten.
const MAX_STATES: usize = 64;
/// The first of the ports that are used in turn.
const FIRST_PORT: u16 = 1024;
/// The number of ports that are used before the first one is used again.
const PORTS: u32 = 60_000;
/// The port of slots that are checked, which stays.
pub(super) const CHECKED_PORT: u16 = 7000;
/// The time from a server's end, or from a push, until the agent on the same host shows it: an interval, the failures in a
/// row that are required, and waiting for a processor.
const CHECK_LAG: Duration = Duration::from_secs(5);

/// How the states of a slot change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotKind {
    /// Requests change its state, and each of them is acknowledged.
    Single,
    /// A provider file changes its state, which is acknowledged when its own agent shows it.
    File,
    /// A TCP check of a server that comes and goes changes its state, seldom enough for damping not to hold it critical.
    Tcp,
    /// Pushes to a TTL check change its state, as seldom as with [`SlotKind::Tcp`].
    Ttl,
    /// As [`SlotKind::Tcp`], but its state changes often, and damping may hold it critical: its address and port are known,
    /// but not whether it is healthy.
    Wild,
}

impl SlotKind {
    /// Whether the agent of the same host shows a state from its acknowledgement on, even after a crash.
    fn is_stored(self) -> bool {
        matches!(self, Self::Single | Self::File)
    }

    fn lag(self) -> Duration {
        if self.is_stored() { Duration::ZERO } else { CHECK_LAG }
    }
}

/// An instance, registered or not.
pub(super) struct Slot {
    pub(super) node: usize,
    pub(super) service: usize,
    pub(super) kind: SlotKind,
    pub(super) id: String,
    pub(super) address: Ipv4Addr,
    history: Mutex<History>,
}

#[derive(Default)]
struct History {
    /// The number of states so far, including those that are forgotten.
    begun: u32,
    states: VecDeque<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// None if it is not registered, or not healthy.
    port: Option<u16>,
    sent: Instant,
    /// When the state was acknowledged; none also if it is not known whether the change was made.
    acknowledged: Option<Instant>,
}

/// A service with its slots.
pub(super) struct Service {
    pub(super) name: String,
    pub(super) slots: Vec<usize>,
}

/// What an answer says about a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    Absent,
    /// It is present, with its port if the answer holds ports.
    Present(Option<u16>),
}

/// How much an answer proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// Only this answer would have been right.
    Firm,
    /// Other answers would have been right as well, because of faults or of news under way.
    Loose,
}

/// All slots and services.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) services: Vec<Service>,
    pub(super) slots: Vec<Slot>,
}

impl Ledger {
    /// Adds a service with slots on these nodes. Returns its number.
    pub(super) fn add(&mut self, name: String, kind: SlotKind, nodes: &[usize]) -> usize {
        let service = self.services.len();
        let mut slots = Vec::new();
        for (at, &node) in nodes.iter().enumerate() {
            let number = self.slots.len();
            let [high, low] = (number as u16).to_be_bytes();
            self.slots.push(Slot {
                node,
                service,
                kind,
                id: format!("{name}.{at}"),
                address: Ipv4Addr::new(127, 16 + node as u8, high, low),
                history: Mutex::default(),
            });
            slots.push(number);
        }
        self.services.push(Service { name, slots });
        service
    }

    /// The slot of an address.
    pub(super) fn slot_at(&self, address: Ipv4Addr) -> Option<usize> {
        let [_, _, high, low] = address.octets();
        let number = usize::from(u16::from_be_bytes([high, low]));
        self.slots.get(number).filter(|slot| slot.address == address).map(|_| number)
    }

    /// Numbers of the slots of a node that are of a kind.
    pub(super) fn of(&self, node: usize, kind: SlotKind) -> Vec<usize> {
        let is_it = |slot: &Slot| slot.node == node && slot.kind == kind;
        (0..self.slots.len()).filter(|at| is_it(&self.slots[*at])).collect()
    }
}

impl Slot {
    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the next state is about to be requested. Returns the port that the instance then has if it is present.
    pub(super) fn begin(&self, is_present: bool) -> u16 {
        let mut history = self.history();
        let port = match self.kind {
            SlotKind::Single | SlotKind::File => FIRST_PORT + (history.begun % PORTS) as u16,
            SlotKind::Tcp | SlotKind::Ttl | SlotKind::Wild => CHECKED_PORT,
        };
        history.begun += 1;
        let port_shown = is_present.then_some(port);
        history.states.push_back(State {
            port: port_shown,
            sent: Instant::now(),
            acknowledged: None,
        });
        if history.states.len() > MAX_STATES {
            history.states.pop_front();
        }
        port
    }

    /// Notes that the newest state was acknowledged.
    pub(super) fn acknowledge(&self) {
        if let Some(state) = self.history().states.back_mut() {
            state.acknowledged = Some(Instant::now());
        }
    }

    /// Whether it is present in its newest state, acknowledged or not.
    pub(super) fn is_present(&self) -> bool {
        self.history().states.back().is_some_and(|state| state.port.is_some())
    }

    /// The ports that it may have when nothing changes any more: that of the last acknowledged state, and those of later states.
    pub(super) fn last_ports(&self) -> Vec<Option<u16>> {
        let history = self.history();
        let last = history.states.iter().rposition(|state| state.acknowledged.is_some());
        let mut ports: Vec<_> =
            history.states.iter().skip(last.unwrap_or(0)).map(|state| state.port).collect();
        if last.is_none() {
            ports.push(None);
        }
        ports
    }

    /// Whether an agent may give this answer about it.
    pub(super) fn judge(
        &self,
        chronicle: &Chronicle,
        asked: Asked,
        shown: Answered,
    ) -> Result<Judged, String> {
        let history = self.history();
        if let Answered::Present(Some(port)) = shown
            && !history.had(self.kind, port)
        {
            return Err(self.evidence(&history, asked, shown, "it never had this port"));
        }
        if self.kind == SlotKind::Wild {
            return Ok(Judged::Loose);
        }
        if chronicle.is_long_dead(self.node, asked) {
            return match shown {
                Answered::Absent => Ok(Judged::Firm),
                Answered::Present(_) => {
                    let what = "its node has been away for long";
                    Err(self.evidence(&history, asked, shown, what))
                }
            };
        }
        let settled =
            history.states.iter().rposition(|state| self.is_settled(state, chronicle, asked));
        let from = settled.unwrap_or(0);
        let allowed = history.states.iter().skip(from).filter(|state| state.sent <= asked.heard);
        let is_calm = self.is_always_reachable(asked) || chronicle.is_calm(asked, self.node);
        let is_forgotten = settled.is_none();
        let may_be_absent = !is_calm || is_forgotten;
        let mut is_shown = shown == Answered::Absent && may_be_absent
            || is_forgotten && history.begun as usize > history.states.len();
        let mut states = 0;
        for state in allowed {
            states += 1;
            is_shown |= match (shown, state.port) {
                (Answered::Absent, None) | (Answered::Present(None), Some(_)) => true,
                (Answered::Present(Some(shown)), Some(port)) => shown == port,
                (Answered::Absent, Some(_)) | (Answered::Present(_), None) => false,
            };
        }
        if !is_shown {
            let what = match shown {
                Answered::Absent => "it is missing",
                Answered::Present(_) => "this is long over",
            };
            return Err(self.evidence(&history, asked, shown, what));
        }
        let is_firm = states == 1 && is_calm && settled.is_some();
        Ok(if is_firm { Judged::Firm } else { Judged::Loose })
    }

    /// Whether the agent knows it in spite of any fault.
    fn is_always_reachable(&self, asked: Asked) -> bool {
        asked.agent == self.node && self.kind.is_stored()
    }

    /// Whether the agent must have known this state, or a later one, when it was asked.
    fn is_settled(&self, state: &State, chronicle: &Chronicle, asked: Asked) -> bool {
        let Some(acknowledged) = state.acknowledged else { return false };
        if self.is_always_reachable(asked) {
            return acknowledged <= asked.at;
        }
        let spread = if asked.agent == self.node { Duration::ZERO } else { SPREAD };
        chronicle.any_calm(asked.agent, self.node, |from, until| {
            let until = until.map_or(asked.at, |until| until.min(asked.at));
            acknowledged.max(from + RECOVERY) + self.kind.lag() + spread <= until
        })
    }

    fn evidence(&self, history: &History, asked: Asked, shown: Answered, what: &str) -> String {
        let ago = |at: Instant| asked.at.saturating_duration_since(at).as_millis();
        let mut text = format!(
            "n{} said of {} ({}, on n{}) {shown:?}: {what}; answered after {} ms; states so far:",
            asked.agent + 1,
            self.id,
            self.address,
            self.node + 1,
            (asked.heard - asked.at).as_millis(),
        );
        for state in history.states.iter().rev().take(6).rev() {
            let acknowledged = state.acknowledged.map_or("?".to_owned(), |at| ago(at).to_string());
            let (port, sent) = (state.port.unwrap_or(0), ago(state.sent));
            let _ =
                write!(text, " {port} (asked {sent} ms, acknowledged {acknowledged} ms before)");
        }
        text
    }
}

impl History {
    /// Whether a slot of a kind has ever had a port.
    fn had(&self, kind: SlotKind, port: u16) -> bool {
        match kind {
            SlotKind::Single | SlotKind::File => {
                let number = u32::from(port.saturating_sub(FIRST_PORT));
                port >= FIRST_PORT && number < self.begun.min(PORTS)
            }
            SlotKind::Tcp | SlotKind::Ttl | SlotKind::Wild => port == CHECKED_PORT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::chronicle::{Fault, NODES};
    use super::*;

    /// A slot on the first of the nodes.
    fn slot(kind: SlotKind) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.add("web".to_owned(), kind, &[0]);
        ledger
    }

    fn asked(agent: usize, at: Instant) -> Asked {
        Asked { agent, at, heard: at }
    }

    #[test]
    fn the_own_agent_shows_what_was_acknowledged_and_nothing_older() {
        let (ledger, chronicle) = (slot(SlotKind::Single), Chronicle::new());
        let slot = &ledger.slots[0];
        let first = slot.begin(true);
        slot.acknowledge();
        let second = slot.begin(true);
        let judge = |agent, shown| slot.judge(&chronicle, asked(agent, Instant::now()), shown);
        assert_eq!(judge(0, Answered::Present(Some(first))), Ok(Judged::Loose));
        assert_eq!(judge(0, Answered::Present(Some(second))), Ok(Judged::Loose));
        assert!(judge(0, Answered::Absent).is_err());
        slot.acknowledge();
        assert!(judge(0, Answered::Present(Some(first))).is_err());
        assert_eq!(judge(0, Answered::Present(Some(second))), Ok(Judged::Firm));
        assert_eq!(judge(1, Answered::Present(Some(first))), Ok(Judged::Loose));
        assert!(judge(1, Answered::Present(Some(second + 1))).is_err());
    }

    #[test]
    fn other_agents_have_their_time_and_no_more() {
        let (ledger, chronicle) = (slot(SlotKind::Single), Chronicle::new());
        let slot = &ledger.slots[0];
        let port = slot.begin(true);
        slot.acknowledge();
        slot.begin(false);
        slot.acknowledge();
        let late = asked(1, Instant::now() + SPREAD + Duration::from_secs(1));
        assert_eq!(slot.judge(&chronicle, late, Answered::Absent), Ok(Judged::Firm));
        assert!(slot.judge(&chronicle, late, Answered::Present(Some(port))).is_err());
        let soon = asked(1, Instant::now());
        assert_eq!(slot.judge(&chronicle, soon, Answered::Present(Some(port))), Ok(Judged::Loose));
    }

    #[test]
    fn what_stays_registered_may_be_missing_only_while_a_fault_keeps_it_away() {
        let (ledger, mut chronicle) = (slot(SlotKind::Single), Chronicle::new());
        let slot = &ledger.slots[0];
        slot.begin(true);
        slot.acknowledge();
        let late = asked(1, Instant::now() + SPREAD + Duration::from_secs(1));
        assert!(slot.judge(&chronicle, late, Answered::Absent).is_err());
        chronicle.begin(&Fault::Cut(0, 1));
        assert_eq!(slot.judge(&chronicle, late, Answered::Absent), Ok(Judged::Loose));
        let other = Asked { agent: 2, ..late };
        assert!(slot.judge(&chronicle, other, Answered::Absent).is_err());
    }

    #[test]
    fn an_address_leads_to_its_slot() {
        let mut ledger = Ledger::default();
        for number in 0..300 {
            ledger.add(format!("s{number}"), SlotKind::Single, &[0, 1, 2]);
        }
        for (number, slot) in ledger.slots.iter().enumerate() {
            assert_eq!(ledger.slot_at(slot.address), Some(number));
        }
        assert_eq!(ledger.slot_at(Ipv4Addr::LOCALHOST), None);
        assert_eq!(ledger.slots[4].node, NODES - 2);
    }
}
