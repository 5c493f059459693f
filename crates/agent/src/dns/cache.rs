//! A worker's encoded answers: found by question, checked against the view, bounded.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use dunlin_core::catalog::CatalogView;
use dunlin_core::dns::{Answer, QuestionKey};

use super::datagrams::MAX_BATCH;

/// Octets of all answers that one worker keeps: those of 10,000 services with 30 instances each.
const MAX_OCTETS: usize = 64 << 20;
/// Octets of the answers that all workers keep together. They keep the same answers, so on a host with many processors
/// each of them keeps less.
const MAX_OCTETS_OF_ALL_WORKERS: usize = 512 << 20;

struct Kept {
    answer: Answer,
    /// The view's index at which the answer was last known to be current.
    seen: u64,
}

/// A question with its hash.
pub(super) struct HashedQuestion {
    pub(super) key: QuestionKey,
    hash: u64,
}

/// Answers by question. At its limit the cache is emptied: filling it takes at least as many different existing names,
/// and an answer costs some microseconds to make again.
///
/// The places of answers are kept apart from the answers, so that they fit into the nearest caches of a processor.
pub(super) struct AnswerCache {
    /// The hash is keyed at random, since anybody can choose the questions.
    hashing: RandomState,
    /// Places in `kept` by the hash of the question. Of two questions with one hash, the later one stays.
    places: HashMap<u64, u32, BuildHasherDefault<Hashed>>,
    kept: Vec<Kept>,
    octets: usize,
    max_entries: usize,
    max_octets: usize,
}

impl AnswerCache {
    pub(super) fn new(max_entries: usize, workers: usize) -> Self {
        Self {
            hashing: RandomState::new(),
            places: HashMap::default(),
            kept: Vec::new(),
            octets: 0,
            max_entries,
            max_octets: MAX_OCTETS.min(MAX_OCTETS_OF_ALL_WORKERS / workers.max(1)),
        }
    }

    pub(super) fn clear(&mut self) {
        self.places.clear();
        self.kept.clear();
        self.octets = 0;
    }

    /// A question with the hash by which this cache finds it.
    pub(super) fn question(&self, key: QuestionKey) -> HashedQuestion {
        HashedQuestion { hash: self.hashing.hash_one(key.as_bytes()), key }
    }

    /// Touches the answers to several questions. The cache holds more answers than the caches of the processor, and two
    /// short loops make the processor wait for all of them at once, where answering would wait for one after the other.
    pub(super) fn bring_near<'a>(&self, questions: impl Iterator<Item = &'a HashedQuestion>) {
        let mut places = [None; MAX_BATCH];
        for (place, question) in places.iter_mut().zip(questions) {
            *place = self.places.get(&question.hash).copied();
        }
        for place in places.into_iter().flatten() {
            self.kept[place as usize].answer.touch();
        }
    }

    /// The answer to a question, if it is here and still true.
    pub(super) fn find(
        &mut self,
        HashedQuestion { hash, key }: &HashedQuestion,
        view: &CatalogView,
    ) -> Option<&Answer> {
        let place = *self.places.get(hash)?;
        let kept = self.kept.get_mut(place as usize).filter(|kept| kept.answer.is_for(key))?;
        let index = view.index();
        if kept.seen != index {
            if !kept.answer.is_current(view, kept.seen) {
                return None;
            }
            kept.seen = index;
        }
        Some(&kept.answer)
    }

    pub(super) fn keep(&mut self, question: &HashedQuestion, view: &CatalogView, answer: Answer) {
        if !answer.is_worth_keeping() || self.max_entries == 0 {
            return;
        }
        if self.kept.len() >= self.max_entries || self.octets + answer.octets() > self.max_octets {
            self.clear();
        }
        self.octets += answer.octets();
        let next = u32::try_from(self.kept.len()).expect("answers fill some megabytes at most");
        let place = *self.places.entry(question.hash).or_insert(next);
        let kept = Kept { answer, seen: view.index() };
        match self.kept.get_mut(place as usize) {
            Some(old) => {
                self.octets -= old.answer.octets();
                *old = kept;
            }
            None => self.kept.push(kept),
        }
    }
}

/// A hasher for keys that are hashes already: it returns them as they are.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, _octets: &[u8]) {
        unreachable!("keys are numbers");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
