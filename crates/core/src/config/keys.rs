//! All keys there are, taken from the schema: for finding unknown ones, for the reference, for reloads.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use serde_json::Value;
use strsim::osa_distance;

use super::Config;

/// What stands in a path for a name that the user chooses.
pub(super) const ANY_NAME: &str = "NAME";

/// Characters of a wrong key that are compared with known ones, all of which are shorter.
const MAX_COMPARED: usize = 40;

pub(super) fn schema() -> Schema {
    SchemaSettings::draft2020_12()
        .with(|s| s.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<Config>()
}

/// A place in the schema: a section, a map with names of the user's choice, or a single value.
#[derive(Clone, Copy)]
pub(super) struct Shape<'a> {
    schema: &'a Value,
    reloadable: bool,
}

impl<'a> Shape<'a> {
    pub(super) fn root(schema: &'a Schema) -> Self {
        Self { schema: schema.as_value(), reloadable: false }
    }

    /// What a key of this section or map holds; `None` if there is no such key.
    pub(super) fn child(self, key: &str) -> Option<Self> {
        let own = self.schema.get("properties").and_then(|p| p.get(key));
        let schema = own.or_else(|| {
            let open = self.schema.get("additionalProperties")?;
            open.is_object().then_some(open)
        })?;
        let marked = schema.get("x-reload").and_then(Value::as_bool);
        Some(Self { schema, reloadable: self.reloadable || marked.unwrap_or(false) })
    }

    /// The keys of this section in the order of their names; a map has one, [`ANY_NAME`].
    pub(super) fn children(self) -> Vec<(&'a str, Self)> {
        let named = self.schema.get("properties").and_then(Value::as_object);
        let names = named.map(|p| p.keys().map(String::as_str).collect());
        let names: Vec<&str> = names.unwrap_or_else(|| vec![ANY_NAME]);
        names.into_iter().filter_map(|name| Some((name, self.child(name)?))).collect()
    }

    /// Whether it holds further keys.
    pub(super) fn is_table(self) -> bool {
        self.has_type("object")
    }

    /// Whether the user chooses its keys.
    pub(super) fn is_map(self) -> bool {
        self.is_table() && self.schema.get("properties").is_none()
    }

    /// Whether SIGHUP applies it.
    pub(super) fn is_reloadable(self) -> bool {
        self.reloadable
    }

    /// Whether values of this JSON type may stand here.
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
        if let Some(items) = self.schema.get("items") {
            let schema = items;
            let of = Self { schema, ..self }.type_word();
            return format!("list of {of}");
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

    /// What the key means, in one line.
    pub(super) fn meaning(self) -> String {
        let text = self.schema.get("description").and_then(Value::as_str);
        let words = text.unwrap_or_default().split_whitespace();
        words.collect::<Vec<_>>().join(" ")
    }

    /// The value without any setting, as JSON.
    pub(super) fn default_value(self) -> Option<&'a Value> {
        self.schema.get("default").filter(|v| !v.is_null())
    }
}

/// The known key that a wrong one may have meant: a near name in the same section, or the same name
/// in another.
pub(super) fn nearest(root: Shape<'_>, section: &[String], wrong: &str) -> Option<String> {
    let mut here = root;
    for key in section {
        here = here.child(key)?;
    }
    let start: String = wrong.chars().take(MAX_COMPARED).collect();
    let siblings = here.children().into_iter().map(|(name, _)| name);
    let closest = siblings
        .filter(|name| *name != ANY_NAME)
        .map(|name| (osa_distance(&start, name), name))
        .min();
    if let Some((distance, name)) = closest
        && distance <= start.chars().count().max(3) / 3
    {
        let mut path = section.to_vec();
        path.push(name.to_owned());
        return Some(path.join("."));
    }
    let elsewhere = root.children().into_iter().find(|(_, section)| {
        let known = section.children();
        known.iter().any(|(name, _)| *name == wrong)
    });
    elsewhere.map(|(section, _)| format!("{section}.{wrong}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_very_long_key_is_like_no_other() {
        let schema = schema();
        assert_eq!(nearest(Shape::root(&schema), &[], &"clustre".repeat(1 << 16)), None);
        let meant = nearest(Shape::root(&schema), &[], "clustre");
        assert_eq!(meant.as_deref(), Some("cluster"));
    }

    #[test]
    fn a_swap_of_neighbours_is_one_mistake() {
        for (a, b, distance) in [("ttl", "ttl", 0), ("tll", "ttl", 1), ("lsiten", "listen", 1)] {
            assert_eq!(osa_distance(a, b), distance, "{a} {b}");
        }
        assert_eq!(osa_distance("", "zone"), 4);
        assert_eq!(osa_distance("kitten", "sitting"), 3);
    }
}
