//! The metadata of an instance.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

type Pair = (Arc<str>, Arc<str>);

/// Pairs of a key and a value that users choose freely, in the order of their keys. A large catalog holds them for each
/// instance, mostly none or few, so they are kept compactly.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "BTreeMap<Arc<str>, Arc<str>>")]
pub struct Meta(Option<Arc<[Pair]>>);

impl Meta {
    /// The pairs in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.0.iter().flat_map(|pairs| pairs.iter()).map(|(key, value)| (key, value))
    }
}

impl Serialize for Meta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pairs = self.0.as_deref().unwrap_or_default();
        serializer.collect_map(pairs.iter().map(|(key, value)| (key, value)))
    }
}

impl From<BTreeMap<Arc<str>, Arc<str>>> for Meta {
    fn from(pairs: BTreeMap<Arc<str>, Arc<str>>) -> Self {
        Self((!pairs.is_empty()).then(|| pairs.into_iter().collect()))
    }
}

impl From<Meta> for BTreeMap<Arc<str>, Arc<str>> {
    fn from(meta: Meta) -> Self {
        meta.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_a_map_on_the_outside() {
        let pairs = BTreeMap::from([("b".into(), "2".into()), ("a".into(), "1".into())]);
        let meta = Meta::from(pairs.clone());
        assert_eq!(meta.iter().map(|(key, _)| &**key).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(serde_json::to_string(&meta).unwrap(), r#"{"a":"1","b":"2"}"#);
        assert_eq!(BTreeMap::from(meta), pairs);
        assert_eq!(serde_json::from_str::<Meta>("{}").unwrap(), Meta::default());
    }
}
