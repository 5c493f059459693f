//! Identifiers of nodes, instances and checks; those of providers are in `provider.rs`.

use std::fmt;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use thiserror::Error;

use super::limits::MAX_ID_OCTETS;
use super::text::{debug_as_quoted_text, serde_as_text, text_conversions};

/// Why a text is not a valid id. The caller's input is at fault; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// The text is empty, or longer than 128 octets.
    #[error("id has {octets} octets; 1 to {MAX_ID_OCTETS} are allowed")]
    Length {
        /// The length of the text.
        octets: usize,
    },
    /// The text holds a character outside of `A-Z a-z 0-9 . _ : @ -`.
    #[error("id {id:?} holds {found:?}; letters, digits and . _ : @ - are allowed")]
    BadCharacter {
        /// The whole text.
        id: String,
        /// The first character that is not allowed.
        found: char,
    },
    /// The text of a node id is not 32 hexadecimal digits.
    #[error("node id {id:?} is not 32 hexadecimal digits")]
    NotHex {
        /// The whole text.
        id: String,
    },
    /// The text of a provider does not begin with a known kind.
    #[error("provider {id:?} is not {expected}")]
    BadProvider {
        /// The text, cut to 128 characters.
        id: String,
        /// The forms of the kinds that this version knows.
        expected: String,
    },
}

pub(super) fn check_id(text: &str) -> Result<(), IdError> {
    if text.is_empty() || text.len() > MAX_ID_OCTETS {
        return Err(IdError::Length { octets: text.len() });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '@' | '-');
    match text.chars().find(|c| !allowed(*c)) {
        Some(found) => Err(IdError::BadCharacter { id: text.to_owned(), found }),
        None => Ok(()),
    }
}

macro_rules! id_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(SmolStr);

        serde_as_text!($name);

        impl $name {
            /// Parses 1 to 128 octets of letters, digits and `. _ : @ -`; upper and lower case differ.
            ///
            /// # Errors
            /// When the text is empty, too long, or holds another character.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check_id(text)?;
                Ok(Self(text.into()))
            }

            /// The text of the id.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

id_newtype!(
    /// The id of an instance, unique on its node.
    InstanceId
);
id_newtype!(
    /// The id of a check, unique within its instance.
    CheckId
);
text_conversions!(IdError: InstanceId, CheckId);
debug_as_quoted_text!(InstanceId, CheckId);

impl CheckId {
    /// An id that sorts before every valid id, for ranges over all checks of an instance.
    pub(crate) fn least() -> Self {
        Self(SmolStr::default())
    }
}

/// A node's random 128-bit identity, kept in its data directory. It stays when the node's name or address changes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId([u8; 16]);

impl NodeId {
    /// The id with these 16 octets, which should be random.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 octets of the id.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Parses 32 hexadecimal digits.
    ///
    /// # Errors
    /// When the text is anything else.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let bad = || IdError::NotHex { id: text.chars().take(64).collect() };
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        u128::from_str_radix(text, 16).map(|n| Self(n.to_be_bytes())).map_err(|_| bad())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_keep_their_case_and_refuse_slashes() {
        assert_eq!(InstanceId::parse("Web-1:8080").unwrap().as_str(), "Web-1:8080");
        for bad in ["", "a/b", "a b", "ä", &"x".repeat(129)] {
            assert!(InstanceId::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_node_id_reads_back(bytes in any::<[u8; 16]>()) {
            let id = NodeId::from_bytes(bytes);
            prop_assert_eq!(NodeId::parse(&id.to_string()).unwrap(), id);
        }

        #[test]
        fn parsing_ids_never_panics(text in any::<String>()) {
            let _ = NodeId::parse(&text);
            let _ = InstanceId::parse(&text);
        }
    }
}
