//! Parsing text and variables into a configuration, while recording where every key was given.
//!
//! Keys are compared with the schema before anything is deserialised, so that a wrong one gets an error with a
//! suggestion. A fault that deserialisation finds is traced back to its key by its span.

mod check;
mod given;
mod variable;

use toml::Table;
use toml::de::DeTable;

use super::keys::{self, Shape};
use super::path::KeyPath;
use super::{ConfigError, ConfigPlace, Root};
use check::{Checker, Source};
use given::Given;
use variable::Variable;

pub(super) fn parse<C: Root>(
    text: &str,
    origin: &str,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<C, ConfigError> {
    let schema = keys::schema::<C>();
    let root = Shape::root(&schema);
    let file = File::new(text, origin);
    let mut given = file.check_keys(root)?;
    let mut settings = file.read::<C>(&given)?;
    for variable in env.into_iter().filter_map(Variable::of_ours) {
        let value = variable.read::<C>(root)?;
        given.replace(&variable.key(), variable.place());
        variable.lay_over(&mut settings, value);
    }
    let config =
        C::deserialize(settings).map_err(|e| bad_value("(all)", ConfigPlace::Nowhere, &e))?;
    config.validate().map_err(|e| e.placed(|key| given.place_of(key)))?;
    Ok(config)
}

fn bad_value(key: &str, place: ConfigPlace, error: &toml::de::Error) -> ConfigError {
    ConfigError::BadValue { place, key: key.to_owned(), problem: error.message().trim().to_owned() }
}

/// The text of a configuration file.
struct File<'a> {
    text: &'a str,
    origin: &'a str,
    /// The offsets at which lines end.
    line_ends: Vec<usize>,
}

impl Source for File<'_> {
    fn place(&self, offset: usize) -> ConfigPlace {
        let line = self.line_ends.partition_point(|end| *end < offset) + 1;
        ConfigPlace::File { origin: self.origin.to_owned(), line }
    }

    fn may_hold_lists(&self) -> bool {
        true
    }
}

impl<'a> File<'a> {
    fn new(text: &'a str, origin: &'a str) -> Self {
        let line_ends = text.match_indices('\n').map(|(at, _)| at).collect();
        Self { text, origin, line_ends }
    }

    fn check_keys(&self, root: Shape<'_>) -> Result<Given, ConfigError> {
        let table = DeTable::parse(self.text).map_err(|error| ConfigError::Syntax {
            place: self.place(error.span().map_or(0, |s| s.start)),
            problem: error.message().trim().to_owned(),
        })?;
        Checker::new(root, self).check(KeyPath::default(), root, table.get_ref())
    }

    fn read<C: Root>(&self, given: &Given) -> Result<Table, ConfigError> {
        if let Err(error) = toml::from_str::<C>(self.text) {
            let at = error.span().map(|span| span.start);
            return Err(match at.and_then(|at| given.innermost(at)) {
                Some((key, place)) => bad_value(key, place.clone(), &error),
                None => bad_value("(file)", self.place(at.unwrap_or(0)), &error),
            });
        }
        toml::from_str(self.text).map_err(|e| bad_value("(file)", self.place(0), &e))
    }
}
