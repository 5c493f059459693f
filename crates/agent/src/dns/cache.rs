//! A worker's encoded answers: found by question, checked against the view, bounded.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;

use dunlin_core::catalog::CatalogView;
use dunlin_core::dns::{Answer, QuestionKey};

/// Octets of all answers and keys that one worker keeps.
const MAX_OCTETS: usize = 32 << 20;

struct Kept {
    answer: Answer,
    /// The view's index at which the answer was last known to be current.
    seen: u64,
}

/// Answers by question. At its limit it starts anew: filling up takes at least as many different
/// existing names, and an answer costs some microseconds to make again.
pub(super) struct AnswerCache {
    /// The hash is keyed at random: questions come from strangers.
    kept: HashMap<Box<[u8]>, Kept, RandomState>,
    octets: usize,
    max_entries: usize,
}

impl AnswerCache {
    pub(super) fn new(max_entries: usize) -> Self {
        Self { kept: HashMap::default(), octets: 0, max_entries }
    }

    pub(super) fn clear(&mut self) {
        self.kept.clear();
        self.octets = 0;
    }

    /// The answer to a question, if it is here and still true.
    pub(super) fn find(&mut self, key: &QuestionKey, view: &CatalogView) -> Option<&Answer> {
        let kept = self.kept.get_mut(key.as_bytes())?;
        let index = view.index();
        if kept.seen != index {
            if !kept.answer.depends().is_current(view) {
                return None;
            }
            kept.seen = index;
        }
        Some(&kept.answer)
    }

    pub(super) fn keep(&mut self, key: &QuestionKey, view: &CatalogView, answer: Answer) {
        if !answer.is_worth_keeping() || self.max_entries == 0 {
            return;
        }
        let octets = answer.octets() + key.as_bytes().len();
        if self.kept.len() >= self.max_entries || self.octets + octets > MAX_OCTETS {
            self.clear();
        }
        self.octets += octets;
        let kept = Kept { answer, seen: view.index() };
        if let Some(old) = self.kept.insert(key.as_bytes().into(), kept) {
            self.octets -= old.answer.octets() + key.as_bytes().len();
        }
    }
}
