//! Settings from variables of the environment.

use toml::de::DeTable;
use toml::{Table, Value};

use super::super::keys::Shape;
use super::super::path::KeyPath;
use super::super::{ConfigError, ConfigPlace, Root};
use super::bad_value;
use super::check::{Checker, Source, not_a_table, only_in_file, unknown};

/// One `DUNLIN_SECTION__KEY`.
pub(super) struct Variable {
    name: String,
    keys: Vec<String>,
    text: String,
}

impl Source for Variable {
    fn place(&self, _offset: usize) -> ConfigPlace {
        Variable::place(self)
    }

    /// Variables cannot hold lists of sections, since another variable could name a section only by its position.
    fn may_hold_lists(&self) -> bool {
        false
    }
}

impl Variable {
    /// The variable as a setting; `None` if it is none.
    pub(super) fn of_ours((name, text): (String, String)) -> Option<Self> {
        let path = name.strip_prefix("DUNLIN_")?;
        if !path.contains("__") {
            return None;
        }
        let keys = path.split("__").map(str::to_ascii_lowercase).collect();
        Some(Self { name, keys, text })
    }

    fn path(&self) -> KeyPath {
        KeyPath::of_keys(&self.keys)
    }

    /// The written path of the key or section that the variable sets.
    pub(super) fn key(&self) -> String {
        self.path().to_string()
    }

    pub(super) fn place(&self) -> ConfigPlace {
        ConfigPlace::Variable { name: self.name.clone() }
    }

    /// The value of the variable, after a configuration with this value alone has been read successfully.
    pub(super) fn read<C: Root>(&self, root: Shape<'_>) -> Result<Value, ConfigError> {
        let shape = self.shape(root)?;
        let value = self.value(shape);
        self.check_inner_keys(root, shape, &value)?;
        // The value is read with defaults for all other keys, so that any fault is this variable's.
        let mut alone = Table::new();
        self.lay_over(&mut alone, value.clone());
        C::deserialize(alone).map_err(|e| bad_value(&self.key(), self.place(), &e))?;
        Ok(value)
    }

    /// The node of the schema at the variable's path.
    fn shape<'a>(&self, root: Shape<'a>) -> Result<Shape<'a>, ConfigError> {
        let (mut shape, mut path) = (root, KeyPath::default());
        for key in &self.keys {
            let child = shape.child(key).filter(|_| !key.is_empty());
            shape = child.ok_or_else(|| unknown(root, &path, key, self.place()))?;
            path.push_key(key);
            if shape.item().is_some() {
                return Err(only_in_file(&path, self.place()));
            }
        }
        Ok(shape)
    }

    fn value(&self, shape: Shape<'_>) -> Value {
        let as_toml = toml::from_str::<Table>(&self.as_line());
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

    /// The text of the variable as a line of TOML.
    fn as_line(&self) -> String {
        format!("value = {}", self.text)
    }

    fn check_inner_keys(
        &self,
        root: Shape<'_>,
        shape: Shape<'_>,
        value: &Value,
    ) -> Result<(), ConfigError> {
        if !shape.is_table() {
            return Ok(());
        }
        let line = self.as_line();
        let whole = DeTable::parse(&line).ok();
        let inner = whole.iter().flat_map(|table| table.get_ref());
        let inner = inner.filter(|(name, _)| name.get_ref() == "value");
        let inner = inner.filter_map(|(_, value)| value.get_ref().as_table()).next();
        let inner =
            inner.ok_or_else(|| not_a_table(&self.path(), self.place(), value.type_str()))?;
        Checker::new(root, self).check(self.path(), shape, inner).map(|_| ())
    }

    /// Sets the value at the variable's path.
    pub(super) fn lay_over(&self, settings: &mut Table, value: Value) {
        lay_over(settings, &self.keys, value);
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
