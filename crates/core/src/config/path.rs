//! The path to a key through sections and lists of sections.

use std::fmt;

/// The names and positions on the path to a key. It is written `guard.service.web.panic`, or `router[1].listen` for a
/// key of the second `[[router]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyPath(Vec<Step>);

/// One step of a [`KeyPath`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// The step to a key of a section.
    Key(String),
    /// The step to a section of a list, counted from 0.
    Item(usize),
}

impl KeyPath {
    pub(super) fn of_keys<'a>(keys: impl IntoIterator<Item = &'a String>) -> Self {
        Self(keys.into_iter().cloned().map(Step::Key).collect())
    }

    pub(super) fn push_key(&mut self, key: &str) {
        self.0.push(Step::Key(key.to_owned()));
    }

    pub(super) fn push_item(&mut self, at: usize) {
        self.0.push(Step::Item(at));
    }

    pub(super) fn pop(&mut self) {
        self.0.pop();
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The path of a key in this section.
    pub(super) fn with_key(&self, key: &str) -> Self {
        let mut path = self.clone();
        path.push_key(key);
        path
    }

    /// Whether the path leads to a section of a list.
    pub(super) fn is_item(&self) -> bool {
        matches!(self.0.last(), Some(Step::Item(_)))
    }

    /// The name of the section in TOML, where all items of a list have the name of the list: `router.tls`.
    pub(super) fn header(&self) -> String {
        let names = self.0.iter().filter_map(|step| match step {
            Step::Key(name) => Some(name.as_str()),
            Step::Item(_) => None,
        });
        names.collect::<Vec<_>>().join(".")
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(name) if at == 0 => f.write_str(name)?,
                Step::Key(name) => write!(f, ".{name}")?,
                Step::Item(item) => write!(f, "[{item}]")?,
            }
        }
        Ok(())
    }
}

/// Whether a written path is that of a section or of something in it.
pub(super) fn is_within(key: &str, section: &str) -> bool {
    let rest = key.strip_prefix(section);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}
