//! The events that a watch has yet to send: states of one moment, handed on piece by piece as the client takes them.
//!
//! A batch holds references to shared views, not bytes: a client that stops reading in the middle of a large snapshot
//! costs its list of references and at most one piece.

use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;
use dunlin_core::catalog::ServiceView;
use dunlin_core::model::ServiceName;

use super::encoded::Encodings;
use super::filter::Filter;
use super::present;

/// Octets that are gathered before they are handed on.
const CHUNK_OCTETS: usize = 16 << 10;

/// The state of one service that is to be sent.
#[derive(Debug)]
pub(super) enum ServiceState {
    /// The service is there.
    Present(Arc<ServiceView>),
    /// The service is not there, since this index.
    Absent(ServiceName, u64),
}

impl ServiceState {
    /// The index since which the service is in this state.
    pub(super) fn index(&self) -> u64 {
        match self {
            Self::Present(service) => service.index,
            Self::Absent(_, index) => *index,
        }
    }

    /// The service's name.
    pub(super) fn name(&self) -> &ServiceName {
        match self {
            Self::Present(service) => &service.name,
            Self::Absent(name, _) => name,
        }
    }

    fn json(&self, encodings: &Encodings, filter: &Filter) -> Bytes {
        match self {
            Self::Present(service) => encodings.of(service, filter).json(),
            Self::Absent(name, index) => {
                let absent = present::absent(name, *index);
                serde_json::to_vec(&absent).expect("plain data always encodes").into()
            }
        }
    }

    fn event(&self, encodings: &Encodings, filter: &Filter, with_id: bool) -> Bytes {
        if let Self::Present(service) = self {
            return encodings.of(service, filter).event(with_id);
        }
        let id = if with_id { format!("id: {}\n", self.index()) } else { String::new() };
        let mut event = format!("{id}event: change\ndata: ").into_bytes();
        event.extend_from_slice(&self.json(encodings, filter));
        event.extend_from_slice(b"\n\n");
        event.into()
    }
}

/// The events that are left to be sent.
#[derive(Debug)]
pub(super) struct EventBatch {
    states: Peekable<std::vec::IntoIter<ServiceState>>,
    form: Form,
    /// What comes before the first state, until it was taken.
    head: Vec<u8>,
    /// What comes after the last state, until it was taken.
    tail: &'static [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// An event for each state.
    Changes,
    /// One event around all states.
    Snapshot,
}

impl Default for EventBatch {
    fn default() -> Self {
        Self::changes(Vec::new())
    }
}

impl EventBatch {
    /// An event for each of these, which are in the order of their indexes.
    pub(super) fn changes(states: Vec<ServiceState>) -> Self {
        let states = states.into_iter().peekable();
        Self { states, form: Form::Changes, head: Vec::new(), tail: b"" }
    }

    /// One event with all of these: as a set, or the single one by itself.
    pub(super) fn snapshot(index: u64, states: Vec<ServiceState>, is_set: bool) -> Self {
        let mut head = format!("id: {index}\nevent: snapshot\ndata: ");
        if is_set {
            head.push_str(&format!("{{\"index\":{index},\"services\":["));
        }
        let tail: &[u8] = if is_set { b"]}\n\n" } else { b"\n\n" };
        let states = states.into_iter().peekable();
        Self { states, form: Form::Snapshot, head: head.into_bytes(), tail }
    }

    /// The next piece; `None` when everything was sent.
    pub(super) fn next(&mut self, encodings: &Encodings, filter: &Filter) -> Option<Bytes> {
        let mut chunk = std::mem::take(&mut self.head);
        while let Some(state) = self.states.next() {
            let following = self.states.peek().map(ServiceState::index);
            let piece = match self.form {
                Form::Changes => state.event(encodings, filter, following != Some(state.index())),
                Form::Snapshot => state.json(encodings, filter),
            };
            let is_last = following.is_none();
            if chunk.is_empty() && is_last && self.tail.is_empty() {
                // The usual case, one change for many watchers: all get the same bytes, uncopied.
                return Some(piece);
            }
            chunk.extend_from_slice(&piece);
            if self.form == Form::Snapshot && !is_last {
                chunk.push(b',');
            }
            if chunk.len() >= CHUNK_OCTETS {
                return Some(chunk.into());
            }
        }
        chunk.extend_from_slice(std::mem::take(&mut self.tail));
        (!chunk.is_empty()).then(|| chunk.into())
    }
}
