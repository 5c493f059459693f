//! What is wrong with a process at the moment, for its status page and its readiness.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What is wrong right now, by the subject that each problem concerns.
#[derive(Debug, Default)]
pub struct Problems(Mutex<BTreeMap<String, String>>);

impl Problems {
    /// Notes a problem, in place of the one that was noted under the same subject before.
    pub fn set(&self, subject: &str, problem: String) {
        self.lock().insert(subject.to_owned(), problem);
    }

    /// Forgets the problem of this subject, if there is one.
    pub fn clear(&self, subject: &str) {
        self.lock().remove(subject);
    }

    /// All problems as `subject: problem`, in the order of their subjects.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        self.lock().iter().map(|(subject, problem)| format!("{subject}: {problem}")).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        // No code panics while holding it; if one did, the map would still be whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_has_one_problem_at_a_time() {
        let problems = Problems::default();
        problems.set("disk", "is slow".to_owned());
        problems.set("certificate", "expires".to_owned());
        problems.set("disk", "is full".to_owned());
        assert_eq!(problems.list(), ["certificate: expires", "disk: is full"]);
        problems.clear("certificate");
        problems.clear("never set");
        assert_eq!(problems.list(), ["disk: is full"]);
    }
}
