//! The suffix that all names of the cluster share, e.g. `dunlin.internal`.

use std::fmt;

use thiserror::Error;

use crate::model::{Label, NameError};

/// The limit of the domain's text in octets. With it the longest target, `NODE.node.ZONE.D` with labels of 63 octets,
/// still fits into a name's 255 octets.
const MAX_DOMAIN_OCTETS: usize = 100;

/// Why a text is not a valid domain. The configuration is at fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DomainError {
    /// One of its labels is not valid.
    #[error("domain {domain:?}: {reason}")]
    BadLabel {
        /// The whole text.
        domain: String,
        /// Why the label is not valid.
        reason: NameError,
    },
    /// The domain is too long for node and zone names in front of it.
    #[error(
        "domain has {octets} octets; at most {MAX_DOMAIN_OCTETS} leave room for node and zone names"
    )]
    TooLong {
        /// The length of the text.
        octets: usize,
    },
}

/// The DNS suffix, in lower case, of one label or more.
#[derive(Clone, PartialEq, Eq)]
pub struct Domain {
    text: Box<str>,
    wire: Box<[u8]>,
}

impl Domain {
    /// Parses a dotted name; a dot at its end is allowed.
    ///
    /// # Errors
    /// When a label is not valid, or the whole exceeds 100 octets.
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.len() > MAX_DOMAIN_OCTETS {
            return Err(DomainError::TooLong { octets: text.len() });
        }
        let mut wire = Vec::with_capacity(text.len() + 2);
        for part in text.split('.') {
            let label = Label::parse(part)
                .map_err(|reason| DomainError::BadLabel { domain: text.to_owned(), reason })?;
            push_label(&mut wire, label.as_str().as_bytes());
        }
        wire.push(0);
        Ok(Self { text: text.to_ascii_lowercase().into(), wire: wire.into() })
    }

    /// The dotted name without a dot at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name as it stands in a message, with the root's octet.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

/// Appends one label in wire form. Labels come from parsed names, so 63 octets are never exceeded.
pub(super) fn push_label(out: &mut Vec<u8>, label: &[u8]) {
    debug_assert!((1..=63).contains(&label.len()), "a parsed label");
    out.push(u8::try_from(label.len()).unwrap_or(0));
    out.extend_from_slice(label);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_one_or_more_labels() {
        let domain = Domain::parse("Dunlin.Internal.").unwrap();
        assert_eq!(domain.as_str(), "dunlin.internal");
        assert_eq!(domain.wire(), b"\x06dunlin\x08internal\x00");
        for bad in ["", ".", "a..b", "-a", "a b"] {
            assert!(Domain::parse(bad).is_err(), "{bad:?}");
        }
        let long = ["a"; 60].join(".");
        assert_eq!(Domain::parse(&long), Err(DomainError::TooLong { octets: 119 }));
    }
}
