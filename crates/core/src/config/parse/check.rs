//! Comparing the given keys with those that exist, before their values are read.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::keys::Shape;
use super::super::nearest::nearest;
use super::super::path::KeyPath;
use super::super::{ConfigError, ConfigPlace};
use super::given::Given;

/// The source of settings, which is a file or a variable.
pub(super) trait Source {
    /// The place of an octet, as errors show it.
    fn place(&self, offset: usize) -> ConfigPlace;

    /// Whether lists of sections are allowed in the source.
    fn may_hold_lists(&self) -> bool;
}

/// Walks through tables and lists of tables in step with the schema.
pub(super) struct Checker<'a, S> {
    root: Shape<'a>,
    source: &'a S,
    path: KeyPath,
    given: Given,
}

impl<'a, S: Source> Checker<'a, S> {
    pub(super) fn new(root: Shape<'a>, source: &'a S) -> Self {
        Self { root, source, path: KeyPath::default(), given: Given::default() }
    }

    /// Checks all keys of the section at `path`, and records where each was given.
    ///
    /// # Errors
    /// The first key that does not exist, or the first value that should be a section and is not.
    pub(super) fn check(
        mut self,
        path: KeyPath,
        shape: Shape<'_>,
        table: &DeTable<'_>,
    ) -> Result<Given, ConfigError> {
        self.path = path;
        self.check_table(shape, table)?;
        Ok(self.given)
    }

    fn check_table(&mut self, shape: Shape<'_>, table: &DeTable<'_>) -> Result<(), ConfigError> {
        for (name, value) in table {
            let place = self.source.place(name.span().start);
            let Some(child) = shape.child(name.get_ref()) else {
                return Err(unknown(self.root, &self.path, name.get_ref(), place));
            };
            self.path.push_key(name.get_ref());
            self.check_value(child, value, place)?;
            self.path.pop();
        }
        Ok(())
    }

    fn check_value(
        &mut self,
        shape: Shape<'_>,
        value: &Spanned<DeValue<'_>>,
        place: ConfigPlace,
    ) -> Result<(), ConfigError> {
        self.given.insert(self.path.to_string(), place.clone(), value.span());
        let value = value.get_ref();
        if let Some(item) = shape.item() {
            if !self.source.may_hold_lists() {
                return Err(only_in_file(&self.path, place));
            }
            let list = value.as_array();
            let list = list.ok_or_else(|| not_a_list(&self.path, place, value.type_str()))?;
            return self.check_items(item, list);
        }
        if !shape.is_table() {
            return Ok(());
        }
        let table = value.as_table();
        let table = table.ok_or_else(|| not_a_table(&self.path, place, value.type_str()))?;
        self.check_table(shape, table)
    }

    fn check_items(
        &mut self,
        item: Shape<'_>,
        list: &[Spanned<DeValue<'_>>],
    ) -> Result<(), ConfigError> {
        for (at, value) in list.iter().enumerate() {
            self.path.push_item(at);
            self.check_value(item, value, self.source.place(value.span().start))?;
            self.path.pop();
        }
        Ok(())
    }
}

pub(super) fn unknown(
    root: Shape<'_>,
    section: &KeyPath,
    name: &str,
    place: ConfigPlace,
) -> ConfigError {
    ConfigError::UnknownKey {
        place,
        key: section.with_key(name).to_string(),
        nearest: nearest(root, section, name),
    }
}

pub(super) fn not_a_table(path: &KeyPath, place: ConfigPlace, found: &str) -> ConfigError {
    let header = path.header();
    let example = if path.is_item() { format!("[[{header}]]") } else { format!("[{header}]") };
    let problem = format!("has the type {found}; a section is expected here, like {example}");
    ConfigError::BadValue { place, key: path.to_string(), problem }
}

fn not_a_list(path: &KeyPath, place: ConfigPlace, found: &str) -> ConfigError {
    let header = path.header();
    let problem =
        format!("has the type {found}; a list of sections is expected here, like [[{header}]]");
    ConfigError::BadValue { place, key: path.to_string(), problem }
}

pub(super) fn only_in_file(path: &KeyPath, place: ConfigPlace) -> ConfigError {
    let header = path.header();
    let problem = format!(
        "is a list of sections, which no variable can set; write [[{header}]] into the configuration file"
    );
    ConfigError::BadValue { place, key: path.to_string(), problem }
}
