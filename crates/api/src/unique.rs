//! Maps whose keys may be given once only.
//!
//! JSON lets a key appear twice, and most readers silently take the last. The author of a text with a key that stands
//! twice meant one of the two, and no reader can know which.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error, MapAccess, Visitor};

/// Reads a map of texts, refusing a key that comes twice.
pub(crate) fn map<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    deserializer.deserialize_map(UniqueMap)
}

struct UniqueMap;

impl<'de> Visitor<'de> for UniqueMap {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((key, value)) = access.next_entry::<String, String>()? {
            if map.contains_key(&key) {
                let shown: String = key.chars().take(128).collect();
                return Err(A::Error::custom(format_args!("duplicate key `{shown}`")));
            }
            map.insert(key, value);
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use crate::Registration;

    #[test]
    fn a_key_given_twice_is_refused() {
        let json = r#"{"service":"web","port":80,"meta":{"a":"1","b":"2","a":"3"}}"#;
        let error = serde_json::from_str::<Registration>(json).unwrap_err().to_string();
        assert!(error.contains("duplicate key `a`"), "{error}");
        let json = r#"{"service":"web","port":80,"port":81}"#;
        let error = serde_json::from_str::<Registration>(json).unwrap_err().to_string();
        assert!(error.contains("duplicate field `port`"), "{error}");
    }
}
