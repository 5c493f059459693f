//! From text and variables to a [`Config`], keeping for every key where it was given.
//!
//! Keys are compared with the schema before anything is deserialised, so that a wrong one gets an error
//! with a suggestion; what deserialisation finds wrong is traced back to its key by its span.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::keys::{self, Shape};
use super::{Config, ConfigError, Place};

pub(super) fn parse(
    text: &str,
    origin: &str,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let schema = keys::schema();
    let root = Shape::root(&schema);
    let file = File { text, origin };
    let mut places = file.check_keys(root)?;
    let mut settings = file.read(&places)?;
    for variable in env.into_iter().filter_map(Variable::of_ours) {
        let value = variable.read(root)?;
        let place = variable.place();
        places.retain(|key, _| !is_within(key, &variable.key()));
        places.insert(variable.key(), (place, 0..0));
        lay_over(&mut settings, &variable.path, value);
    }
    let config =
        Config::deserialize(settings).map_err(|e| bad_value("(all)", Place::Nowhere, &e))?;
    let find = |key: &str| {
        let exact = places.get(key);
        let section = || places.iter().find(|(known, _)| is_within(key, known)).map(|(_, at)| at);
        exact.or_else(section).map(|(place, _)| place.clone())
    };
    config.validate().map_err(|e| e.placed(find))?;
    Ok(config)
}

/// Whether `key` is `section` or stands in it.
fn is_within(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn bad_value(key: &str, place: Place, error: &toml::de::Error) -> ConfigError {
    ConfigError::BadValue { place, key: key.to_owned(), problem: error.message().trim().to_owned() }
}

/// Each key that was given: where, and the octets of its value in the file.
type Places = BTreeMap<String, (Place, Range<usize>)>;

struct File<'a> {
    text: &'a str,
    origin: &'a str,
}

impl File<'_> {
    fn place(&self, offset: usize) -> Place {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        let newlines = before.iter().filter(|b| **b == b'\n').count();
        Place::File { origin: self.origin.to_owned(), line: newlines + 1 }
    }

    fn check_keys(&self, root: Shape<'_>) -> Result<Places, ConfigError> {
        let table = DeTable::parse(self.text).map_err(|error| ConfigError::Syntax {
            place: self.place(error.span().map_or(0, |s| s.start)),
            problem: error.message().trim().to_owned(),
        })?;
        let mut places = Places::new();
        self.check_table(root, root, &mut Vec::new(), table.get_ref(), &mut places)?;
        Ok(places)
    }

    fn check_table(
        &self,
        root: Shape<'_>,
        shape: Shape<'_>,
        section: &mut Vec<String>,
        table: &DeTable<'_>,
        places: &mut Places,
    ) -> Result<(), ConfigError> {
        for (name, value) in table {
            let place = self.place(name.span().start);
            let Some(child) = shape.child(name.get_ref()) else {
                return Err(unknown(root, section, name.get_ref(), place));
            };
            section.push(name.get_ref().to_string());
            self.check_value(root, child, section, value, place, places)?;
            section.pop();
        }
        Ok(())
    }

    fn check_value(
        &self,
        root: Shape<'_>,
        shape: Shape<'_>,
        path: &mut Vec<String>,
        value: &Spanned<DeValue<'_>>,
        place: Place,
        places: &mut Places,
    ) -> Result<(), ConfigError> {
        let key = path.join(".");
        match (shape.is_table(), value.get_ref().as_table()) {
            (true, Some(table)) => self.check_table(root, shape, path, table, places),
            (true, None) => Err(not_a_table(key, place, value.get_ref().type_str())),
            (false, _) => {
                places.insert(key, (place, value.span()));
                Ok(())
            }
        }
    }

    fn read(&self, places: &Places) -> Result<Table, ConfigError> {
        if let Err(error) = toml::from_str::<Config>(self.text) {
            let at = error.span().map_or(0, |s| s.start);
            let culprit = places.iter().find(|(_, (_, span))| span.contains(&at));
            return Err(match culprit {
                Some((key, (place, _))) => bad_value(key, place.clone(), &error),
                None => bad_value("(file)", self.place(at), &error),
            });
        }
        toml::from_str(self.text).map_err(|e| bad_value("(file)", self.place(0), &e))
    }
}

fn unknown(root: Shape<'_>, section: &[String], name: &str, place: Place) -> ConfigError {
    let mut key = section.to_vec();
    key.push(name.to_owned());
    ConfigError::UnknownKey {
        place,
        key: key.join("."),
        nearest: keys::nearest(root, section, name),
    }
}

fn not_a_table(key: String, place: Place, found: &str) -> ConfigError {
    ConfigError::BadValue {
        problem: format!("has the type {found}; a section is expected here, like [{key}]"),
        place,
        key,
    }
}

/// One `DUNLIN_SECTION__KEY`.
struct Variable {
    name: String,
    path: Vec<String>,
    text: String,
}

impl Variable {
    fn of_ours((name, text): (String, String)) -> Option<Self> {
        let path = name.strip_prefix("DUNLIN_")?;
        if !path.contains("__") {
            return None;
        }
        let path = path.split("__").map(str::to_ascii_lowercase).collect();
        Some(Self { name, path, text })
    }

    fn key(&self) -> String {
        self.path.join(".")
    }

    fn place(&self) -> Place {
        Place::Variable { name: self.name.clone() }
    }

    fn read(&self, root: Shape<'_>) -> Result<Value, ConfigError> {
        let mut shape = root;
        for (depth, key) in self.path.iter().enumerate() {
            let section = &self.path[..depth];
            shape = shape
                .child(key)
                .filter(|_| !key.is_empty())
                .ok_or_else(|| unknown(root, section, key, self.place()))?;
        }
        let value = self.value(shape);
        self.check_inner_keys(root, shape, &value)?;
        // Alone with the defaults, so that whatever is wrong is this variable's doing.
        let mut alone = Table::new();
        lay_over(&mut alone, &self.path, value.clone());
        Config::deserialize(alone).map_err(|e| bad_value(&self.key(), self.place(), &e))?;
        Ok(value)
    }

    fn value(&self, shape: Shape<'_>) -> Value {
        let as_toml = toml::from_str::<Table>(&format!("value = {}", self.text));
        let as_toml = as_toml.ok().and_then(|mut table| table.remove("value"));
        let as_text = || Value::String(self.text.clone());
        if shape.has_type("array") {
            let parts = self.text.split(',').map(str::trim).filter(|p| !p.is_empty());
            let parts = parts.map(|p| Value::String(p.to_owned())).collect();
            return as_toml.filter(Value::is_array).unwrap_or(Value::Array(parts));
        }
        if shape.has_type("string") {
            return as_toml.filter(Value::is_str).unwrap_or_else(as_text);
        }
        as_toml.unwrap_or_else(as_text)
    }

    fn check_inner_keys(
        &self,
        root: Shape<'_>,
        shape: Shape<'_>,
        value: &Value,
    ) -> Result<(), ConfigError> {
        match (shape.is_table(), value.as_table()) {
            (true, None) => Err(not_a_table(self.key(), self.place(), value.type_str())),
            (true, Some(table)) => {
                let strange = table.keys().find(|key| shape.child(key).is_none());
                strange.map_or(Ok(()), |key| Err(unknown(root, &self.path, key, self.place())))
            }
            (false, _) => Ok(()),
        }
    }
}

fn lay_over(settings: &mut Table, path: &[String], value: Value) {
    let [key, rest @ ..] = path else {
        return;
    };
    if rest.is_empty() {
        settings.insert(key.clone(), value);
        return;
    }
    let section = settings.entry(key.clone()).or_insert_with(|| Table::new().into());
    if let Value::Table(section) = section {
        lay_over(section, rest, value);
    }
}
