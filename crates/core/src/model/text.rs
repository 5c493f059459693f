//! Names and ids as they are sent and stored: their text, neither copied to be written nor to be read.

use std::fmt;

use serde::de::{Error, Visitor};

/// Reads a text by a parser.
pub(super) struct Text<P>(pub(super) P);

impl<'de, T, E, P> Visitor<'de> for Text<P>
where
    E: fmt::Display,
    P: FnOnce(&str) -> Result<T, E>,
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<F: Error>(self, text: &str) -> Result<T, F> {
        (self.0)(text).map_err(F::custom)
    }
}

/// Has a type written as its `as_str` and read by its `parse`.
macro_rules! serde_as_text {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(crate::model::text::Text(Self::parse))
            }
        }
    };
}
pub(super) use serde_as_text;
