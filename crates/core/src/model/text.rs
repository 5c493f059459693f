//! Names and ids as text: how they are converted, written, and sent and stored without copying the text.

use std::fmt;

use serde::de::{Error, Visitor};

/// A visitor that passes a text to a parser.
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

/// Serialises a type as the text of its `as_str`, and deserialises it by its `parse`.
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

/// Converts types from text by their `parse`, and to text by their `as_str`.
macro_rules! text_conversions {
    ($error:ty: $($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, $error> {
                Self::parse(&text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $error;
            fn from_str(text: &str) -> Result<Self, $error> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.as_str().to_owned()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )*};
}
pub(crate) use text_conversions;

/// Shows types in debugging output as their text in quotes.
macro_rules! debug_as_quoted_text {
    ($($name:ident),*) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }
    )*};
}
pub(crate) use debug_as_quoted_text;
