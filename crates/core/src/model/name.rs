//! Names: labels, services, zones, nodes.
//!
//! Labels are letters, digits, hyphens and inner underscores; upper case is folded to lower, since DNS
//! compares names without case (RFC 4343). A leading underscore is left to RFC 2782 questions.

use std::borrow::Borrow;
use std::sync::Arc;

use smol_str::SmolStr;
use thiserror::Error;

use super::limits::{MAX_LABEL_OCTETS, MAX_NAME_OCTETS, MAX_SERVICE_LABELS};
use super::text::{debug_as_quoted_text, serde_as_text, text_conversions};

/// Labels that have a meaning of their own in the domain, so that neither a zone nor a label of a service may be called
/// so.
pub const RESERVED_LABELS: [&str; 3] = ["any", "node", "local"];

/// Why a text is not a valid name. The caller's input is at fault; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// The text, or one of its labels, is empty.
    #[error("name {name:?} has an empty label")]
    EmptyLabel {
        /// The whole text.
        name: String,
    },
    /// A label exceeds 63 octets.
    #[error("label {label:?} has {octets} octets, at most {MAX_LABEL_OCTETS} fit")]
    LabelTooLong {
        /// The label, cut to 63 octets.
        label: String,
        /// The length of the label.
        octets: usize,
    },
    /// The whole name exceeds 253 octets.
    #[error("name has {octets} octets, at most {MAX_NAME_OCTETS} fit")]
    NameTooLong {
        /// The length of the name.
        octets: usize,
    },
    /// A label holds something other than letters, digits, hyphens and inner underscores.
    #[error("label {label:?} holds {found:?}; letters, digits, '-' and inner '_' are allowed")]
    BadCharacter {
        /// The label at fault.
        label: String,
        /// The first character that is not allowed.
        found: char,
    },
    /// A label begins or ends with a hyphen or an underscore.
    #[error("label {label:?} begins or ends with '-' or '_'")]
    BadEdge {
        /// The label at fault.
        label: String,
    },
    /// A service name has more than four labels.
    #[error(
        "service name {name:?} has {labels} labels; at most {MAX_SERVICE_LABELS}: service.job.env.product"
    )]
    TooManyLabels {
        /// The whole text.
        name: String,
        /// The number of labels.
        labels: usize,
    },
    /// A label is one of [`RESERVED_LABELS`].
    #[error("{label:?} is reserved (any, node, local) and cannot be a zone or part of a service")]
    Reserved {
        /// The label at fault.
        label: String,
    },
}

/// One part of a name, with 1 to 63 octets in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Arc<str>);

serde_as_text!(Label);

impl Label {
    /// Parses one label, and folds upper case to lower.
    ///
    /// # Errors
    /// When the text is empty, too long, or holds a character that is not allowed in labels.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check_label(text)?;
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The text of the label.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse_unreserved(text: &str) -> Result<Self, NameError> {
        let label = Self::parse(text)?;
        refuse_reserved(&label.0)?;
        Ok(label)
    }
}

fn check_label(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::EmptyLabel { name: text.to_owned() });
    }
    if text.len() > MAX_LABEL_OCTETS {
        let cut = text.char_indices().take_while(|(at, _)| *at < MAX_LABEL_OCTETS).map(|(_, c)| c);
        return Err(NameError::LabelTooLong { label: cut.collect(), octets: text.len() });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if let Some(found) = text.chars().find(|c| !allowed(*c)) {
        return Err(NameError::BadCharacter { label: text.to_owned(), found });
    }
    let edge = |c: Option<u8>| matches!(c, Some(b'-' | b'_'));
    if edge(text.bytes().next()) || edge(text.bytes().next_back()) {
        return Err(NameError::BadEdge { label: text.to_owned() });
    }
    Ok(())
}

fn refuse_reserved(label: &str) -> Result<(), NameError> {
    if RESERVED_LABELS.contains(&label) {
        return Err(NameError::Reserved { label: label.to_owned() });
    }
    Ok(())
}

/// A service's name: one to four labels, most specific first: `service[.job[.env[.product]]]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(SmolStr);

serde_as_text!(ServiceName);

impl ServiceName {
    /// Parses a dotted name, and folds upper case to lower.
    ///
    /// # Errors
    /// When a label is not valid or reserved, or there are more than four, or the whole exceeds 253 octets.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.len() > MAX_NAME_OCTETS {
            return Err(NameError::NameTooLong { octets: text.len() });
        }
        let lower = text.to_ascii_lowercase();
        let mut labels = 0;
        for label in lower.split('.') {
            if label.is_empty() {
                return Err(NameError::EmptyLabel { name: text.to_owned() });
            }
            check_label(label)?;
            refuse_reserved(label)?;
            labels += 1;
        }
        if labels > MAX_SERVICE_LABELS {
            return Err(NameError::TooManyLabels { name: text.to_owned(), labels });
        }
        Ok(Self(lower.into()))
    }

    /// The dotted name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The labels of the name, most specific first.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }
}

macro_rules! label_newtype {
    ($(#[$doc:meta])* $name:ident, $parse:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Label);

        serde_as_text!($name);

        impl $name {
            /// Parses one label.
            ///
            /// # Errors
            /// When the text is not a valid label, or reserved where reserved labels are not allowed.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                Label::$parse(text).map(Self)
            }

            /// The text of the name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        /// The name is compared and hashed like its text.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }
    };
}

label_newtype!(
    /// The name of a failure domain: one label that is not reserved. It has nothing to do with zones in DNS.
    ZoneName,
    parse_unreserved
);
label_newtype!(
    /// The name of a node, unique in the cluster: one label.
    NodeName,
    parse
);

text_conversions!(NameError: Label, ServiceName, ZoneName, NodeName);
debug_as_quoted_text!(Label, ServiceName, ZoneName, NodeName);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_service_name_has_one_to_four_labels() {
        assert_eq!(ServiceName::parse("Web").unwrap().as_str(), "web");
        let name = ServiceName::parse("http.api.prod.shop").unwrap();
        assert_eq!(name.labels().collect::<Vec<_>>(), ["http", "api", "prod", "shop"]);
        assert!(matches!(
            ServiceName::parse("a.b.c.d.e"),
            Err(NameError::TooManyLabels { labels: 5, .. })
        ));
    }

    #[test]
    fn bad_labels_are_refused_with_the_reason() {
        let long = "a".repeat(64);
        assert!(ServiceName::parse(&"a".repeat(63)).is_ok());
        assert!(matches!(
            ServiceName::parse(&long),
            Err(NameError::LabelTooLong { octets: 64, .. })
        ));
        for (text, expected) in [
            ("", "empty label"),
            ("web.", "empty label"),
            ("web..shop", "empty label"),
            ("we b", "holds ' '"),
            ("wéb", "holds 'é'"),
            ("-web", "begins or ends"),
            ("_web", "begins or ends"),
            ("web.any", "reserved"),
            ("NODE", "reserved"),
        ] {
            let error = ServiceName::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_zone_is_one_unreserved_label() {
        assert_eq!(ZoneName::parse("EU1").unwrap().as_str(), "eu1");
        for bad in ["eu.1", "any", "local", ""] {
            assert!(ZoneName::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_is_stable(text in any::<String>()) {
            if let Ok(name) = ServiceName::parse(&text) {
                prop_assert_eq!(&ServiceName::parse(name.as_str()).unwrap(), &name);
                prop_assert!(name.labels().count() <= MAX_SERVICE_LABELS);
                prop_assert!(name.labels().all(|l| (1..=MAX_LABEL_OCTETS).contains(&l.len())));
            }
            let _ = Label::parse(&text);
        }

        #[test]
        fn every_well_formed_name_is_taken(
            labels in prop::collection::vec("[A-Za-z0-9]([A-Za-z0-9_-]{0,30}[A-Za-z0-9])?", 1..=4)
        ) {
            let text = labels.join(".");
            let reserved =
                labels.iter().any(|l| RESERVED_LABELS.contains(&l.to_ascii_lowercase().as_str()));
            prop_assert_eq!(ServiceName::parse(&text).is_ok(), !reserved);
        }
    }
}
