//! All keys that exist, as the schema lists them: for finding unknown ones, for the reference, and for reloads.
//!
//! The schema is made from the types of the sections. The keys that a running agent applies, which the types do not
//! tell, are marked in it from the list in `reload.rs`.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::Root;

/// The word in a path that stands for a name of the user's choice.
pub(super) const ANY_NAME: &str = "NAME";

/// The mark of a key or section that a running agent applies, with everything in it.
const RELOAD_MARK: &str = "x-reload";

/// The schema of a configuration, in which the reloadable keys are marked.
pub(super) fn schema<C: Root>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<C>();
    for path in C::RELOADABLE {
        mark(&mut schema, path);
    }
    schema
}

fn mark(schema: &mut Schema, path: &[&str]) {
    let mut pointer = String::new();
    for key in path {
        let in_list = format!("{pointer}/items/properties/{key}");
        let is_in_list = schema.pointer(&in_list).is_some();
        pointer = if is_in_list { in_list } else { format!("{pointer}/properties/{key}") };
    }
    let key = schema.pointer_mut(&pointer).and_then(Value::as_object_mut);
    key.expect("a key that is declared reloadable exists").insert(RELOAD_MARK.into(), true.into());
}

/// A node of the schema: a section, a list of sections, a map with names of the user's choice, or a plain value.
#[derive(Clone, Copy)]
pub(super) struct Shape<'a> {
    schema: &'a Value,
    is_reloadable: bool,
    is_required: bool,
}

impl<'a> Shape<'a> {
    pub(super) fn root(schema: &'a Schema) -> Self {
        Self { schema: schema.as_value(), is_reloadable: false, is_required: false }
    }

    /// A node within this one.
    fn inner(self, schema: &'a Value, is_required: bool) -> Self {
        let is_marked = schema.get(RELOAD_MARK).and_then(Value::as_bool).unwrap_or(false);
        Self { schema, is_reloadable: self.is_reloadable || is_marked, is_required }
    }

    /// The node of a key of this section or map; `None` if the key does not exist.
    pub(super) fn child(self, key: &str) -> Option<Self> {
        let own = self.schema.get("properties").and_then(|p| p.get(key));
        let schema = own.or_else(|| {
            let open = self.schema.get("additionalProperties")?;
            open.is_object().then_some(open)
        })?;
        let required = self.schema.get("required").and_then(Value::as_array);
        let is_required = required.is_some_and(|keys| keys.iter().any(|k| k == key));
        Some(self.inner(schema, is_required))
    }

    /// One section of this list of sections; `None` if this is not a list of sections.
    pub(super) fn item(self) -> Option<Self> {
        let item = self.inner(self.schema.get("items")?, false);
        item.is_table().then_some(item)
    }

    /// The keys of this section in the order of their names; a map has one, [`ANY_NAME`].
    pub(super) fn children(self) -> Vec<(&'a str, Self)> {
        let named = self.schema.get("properties").and_then(Value::as_object);
        let names = named.map(|p| p.keys().map(String::as_str).collect());
        let names: Vec<&str> = names.unwrap_or_else(|| vec![ANY_NAME]);
        names.into_iter().filter_map(|name| Some((name, self.child(name)?))).collect()
    }

    /// Whether the value holds further keys.
    pub(super) fn is_table(self) -> bool {
        self.has_type("object")
    }

    /// Whether the user chooses its keys.
    pub(super) fn is_map(self) -> bool {
        self.is_table() && self.schema.get("properties").is_none()
    }

    /// Whether SIGHUP applies changes of the value.
    pub(super) fn is_reloadable(self) -> bool {
        self.is_reloadable
    }

    /// Whether the section must contain the key.
    pub(super) fn is_required(self) -> bool {
        self.is_required
    }

    /// Whether values of this JSON type are allowed here.
    pub(super) fn has_type(self, name: &str) -> bool {
        match self.schema.get("type") {
            Some(Value::String(only)) => only == name,
            Some(Value::Array(several)) => several.iter().any(|t| t == name),
            _ => name == "string" && self.schema.get("enum").is_some(),
        }
    }

    /// A word for the type, for people.
    pub(super) fn type_word(self) -> String {
        if let Some(word) = self.schema.get("x-type").and_then(Value::as_str) {
            return word.to_owned();
        }
        if let Some(choices) = self.choices() {
            return choices.join(" or ");
        }
        if self.item().is_some() {
            return "list of tables".to_owned();
        }
        if let Some(items) = self.schema.get("items") {
            return format!("list of {}", self.inner(items, false).type_word());
        }
        if self.is_map() {
            let of = self.child(ANY_NAME).map(Self::type_word);
            return format!("table of {}", of.unwrap_or_default());
        }
        let words = [
            ("boolean", "true or false"),
            ("integer", "whole number"),
            ("number", "number"),
            ("string", "text"),
        ];
        let word = words.iter().find(|(name, _)| self.has_type(name));
        word.map_or("table", |(_, word)| word).to_owned()
    }

    fn choices(self) -> Option<Vec<String>> {
        let quoted = |v: &Value| v.as_str().map(|s| format!("`\"{s}\"`"));
        if let Some(plain) = self.schema.get("enum").and_then(Value::as_array) {
            return Some(plain.iter().filter_map(quoted).collect());
        }
        let described = self.schema.get("oneOf")?.as_array()?;
        let constants = described.iter().filter_map(|c| c.get("const"));
        Some(constants.filter_map(quoted).collect())
    }

    /// The meaning of the key in one line.
    pub(super) fn meaning(self) -> String {
        let text = self.schema.get("description").and_then(Value::as_str);
        let words = text.unwrap_or_default().split_whitespace();
        words.collect::<Vec<_>>().join(" ")
    }

    /// The default value as JSON.
    pub(super) fn default_value(self) -> Option<&'a Value> {
        self.schema.get("default").filter(|v| !v.is_null())
    }
}
