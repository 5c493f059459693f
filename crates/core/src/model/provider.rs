//! Providers: the kinds that exist, what the rest of the code asks of a kind, and the name of one provider.
//!
//! Every question about a kind is a property in its row of the table in this file, so that a new kind is one
//! more row here. Other code asks the property and never compares kinds, except where it is itself the source
//! of one kind (the services folder states files, and no other kind).
//!
//! Rows of other nodes may name a kind that only a newer version knows. [`ProviderId::decode`] keeps these as
//! text, under [`ProviderKind::Other`], so that the row is shown and passed on as it came.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::id::{IdError, check_id};
use super::limits::MAX_ID_OCTETS;
use super::text::{Text, text_conversions};

/// The limit of the word of an unknown kind, in octets.
const MAX_WORD_OCTETS: usize = 32;

/// Why the API refuses a call for all providers of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderRefusal {
    /// The reason as a predicate of the provider, to be written behind its name: "is a file".
    pub why: &'static str,
    /// The call or action by which the caller can achieve the same.
    pub instead: &'static str,
}

/// The properties of a kind on which other code depends.
struct Properties {
    /// The word in front of the provider's name. It is sent and stored, so it can never change.
    word: &'static str,
    /// The beginning that a name may have in a path of the API instead of `word:`. `None` if only the full form is
    /// accepted.
    path_prefix: Option<&'static str>,
    /// Why a client may not state the complete set by `PUT`. `None` if a client may.
    set_refusal: Option<ProviderRefusal>,
    /// Why a client may not remove the provider by `DELETE`. `None` if a client may.
    removal_refusal: Option<ProviderRefusal>,
    /// See [`ProviderKind::takes_single_instances`].
    takes_single_instances: bool,
    /// See [`ProviderKind::speaks_only_on_change`].
    speaks_only_on_change: bool,
    /// See [`ProviderKind::is_removed_on_purpose`].
    is_removed_on_purpose: bool,
    /// See [`ProviderKind::is_drained_at_stop`].
    is_drained_at_stop: bool,
}

/// Turns the rows of the table into the enum of kinds and the list of their properties.
macro_rules! provider_kinds {
    ($($(#[$doc:meta])* $kind:ident $properties:tt)*) => {
        /// How a provider speaks to the agent. Of two providers that state the same instance, the one whose
        /// kind comes first here inherits it when its holder lets it go.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ProviderKind {
            $($(#[$doc])* $kind,)*
            /// A kind that this version does not know. Only rows and databases of newer versions name it.
            Other,
        }

        impl ProviderKind {
            /// The kinds that this version knows.
            const KNOWN: &[Self] = &[$(Self::$kind),*];

            const fn properties(self) -> &'static Properties {
                match self {
                    $(Self::$kind => &Properties $properties,)*
                    Self::Other => &OF_AN_UNKNOWN_KIND,
                }
            }
        }
    };
}

provider_kinds! {
    /// A file in the services folder.
    File {
        word: "file",
        path_prefix: None,
        set_refusal: Some(ProviderRefusal {
            why: "is a file",
            instead: "change the file in the services folder",
        }),
        removal_refusal: Some(ProviderRefusal {
            why: "is a file",
            instead: "remove it from the services folder",
        }),
        takes_single_instances: false,
        speaks_only_on_change: true,
        // A folder that is not mounted looks like one whose files were removed.
        is_removed_on_purpose: false,
        is_drained_at_stop: false,
    }
    /// `PUT /api/providers/NAME` with the complete set.
    Http {
        word: "http",
        path_prefix: Some(""),
        set_refusal: None,
        removal_refusal: None,
        takes_single_instances: false,
        speaks_only_on_change: false,
        is_removed_on_purpose: true,
        is_drained_at_stop: false,
    }
    /// A `dunlin run` that lives as long as its command.
    Run {
        word: "run",
        path_prefix: Some("run."),
        set_refusal: None,
        removal_refusal: None,
        takes_single_instances: false,
        speaks_only_on_change: false,
        is_removed_on_purpose: true,
        is_drained_at_stop: true,
    }
    /// Single instances by `PUT /api/instances/ID`; there is one such provider.
    Api {
        word: "api",
        path_prefix: None,
        set_refusal: Some(ProviderRefusal {
            why: "has no set",
            instead: "PUT /api/instances/ID registers single instances",
        }),
        removal_refusal: None,
        takes_single_instances: true,
        speaks_only_on_change: false,
        is_removed_on_purpose: true,
        is_drained_at_stop: false,
    }
}

/// Providers of an unknown kind are only kept, and removed when an operator asks for it.
const OF_AN_UNKNOWN_KIND: Properties = Properties {
    word: "",
    path_prefix: None,
    set_refusal: Some(ProviderRefusal {
        why: "is of a kind that this version does not know",
        instead: "state its instances with the version that made it",
    }),
    removal_refusal: None,
    takes_single_instances: false,
    speaks_only_on_change: false,
    is_removed_on_purpose: true,
    is_drained_at_stop: false,
};

impl ProviderKind {
    /// Why a client may not state the complete set of a provider of this kind; `None` if it may.
    #[must_use]
    pub fn set_refusal(self) -> Option<ProviderRefusal> {
        self.properties().set_refusal
    }

    /// Why a client may not remove a provider of this kind; `None` if it may.
    #[must_use]
    pub fn removal_refusal(self) -> Option<ProviderRefusal> {
        self.properties().removal_refusal
    }

    /// Whether instances are registered and deregistered one by one. All other kinds state their whole set
    /// again by themselves: an instance that is taken from the set would return with the next statement, so it
    /// cannot be deregistered, and one that was critical for too long is suppressed until it is stated
    /// differently.
    #[must_use]
    pub fn takes_single_instances(self) -> bool {
        self.properties().takes_single_instances
    }

    /// Whether a statement is made only when its source was changed or somebody asked for it, so that even an unchanged
    /// statement means that suppressed instances are wanted again. Other kinds repeat their statements to show that they
    /// are alive.
    #[must_use]
    pub fn speaks_only_on_change(self) -> bool {
        self.properties().speaks_only_on_change
    }

    /// Whether a removed provider was removed on purpose. If that is not certain, the guard may hold the provider's
    /// instances.
    #[must_use]
    pub fn is_removed_on_purpose(self) -> bool {
        self.properties().is_removed_on_purpose
    }

    /// Whether the provider's instances end with the agent, so that they are shown as draining while the agent stops.
    #[must_use]
    pub fn is_drained_at_stop(self) -> bool {
        self.properties().is_drained_at_stop
    }

    /// `file:NAME, http:NAME, run:NAME or api:NAME`, for errors.
    fn spellings() -> String {
        let all: Vec<_> = Self::KNOWN.iter().map(|k| format!("{}:NAME", k.word())).collect();
        match all.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    }

    fn word(self) -> &'static str {
        self.properties().word
    }

    fn by_word(word: &str) -> Option<Self> {
        Self::KNOWN.iter().copied().find(|kind| kind.word() == word)
    }
}

/// A host-local source of instances, written `kind:name`, e.g. `file:web.toml`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderId {
    kind: ProviderKind,
    /// The name with the kind in front.
    text: Arc<str>,
}

impl ProviderId {
    /// The provider with this kind and name.
    ///
    /// # Errors
    /// When the name is not a valid id, or the kind is [`ProviderKind::Other`], which has no word.
    pub fn new(kind: ProviderKind, name: &str) -> Result<Self, IdError> {
        check_id(name)?;
        if kind == ProviderKind::Other {
            return Err(bad_provider(name));
        }
        Ok(Self::of(kind, name))
    }

    /// The provider behind `PUT /api/instances/ID`.
    #[must_use]
    pub fn api() -> Self {
        Self::of(ProviderKind::Api, "instances")
    }

    fn of(kind: ProviderKind, name: &str) -> Self {
        Self { kind, text: [kind.word(), ":", name].concat().into() }
    }

    /// Parses `kind:name` as a user of this host gives it.
    ///
    /// # Errors
    /// When the kind is unknown or the name is not a valid id.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let (word, name) = text.split_once(':').ok_or_else(|| bad_provider(text))?;
        let kind = ProviderKind::by_word(word).ok_or_else(|| bad_provider(text))?;
        Self::new(kind, name)
    }

    /// Parses a provider in a path of the API: `kind:name`, or a kind's short form, for example `run.NAME`.
    ///
    /// # Errors
    /// When the kind is unknown or the name is not a valid id.
    pub fn parse_in_path(text: &str) -> Result<Self, IdError> {
        if text.contains(':') {
            return Self::parse(text);
        }
        let named = |kind: &ProviderKind| {
            let name = text.strip_prefix(kind.properties().path_prefix?)?;
            Some((*kind, name))
        };
        // The longest prefix leaves the shortest name. The empty prefix always matches.
        let short_forms = ProviderKind::KNOWN.iter().filter_map(named);
        let (kind, name) =
            short_forms.min_by_key(|(_, name)| name.len()).ok_or_else(|| bad_provider(text))?;
        Self::new(kind, name)
    }

    /// Parses `kind:name` as it was sent or stored, possibly by a newer version: an unknown kind is kept as
    /// [`ProviderKind::Other`] if its word consists of at most 32 lower-case letters, digits and `-`.
    ///
    /// # Errors
    /// When the text is not `kind:name`, or the name is not a valid id.
    pub fn decode(text: &str) -> Result<Self, IdError> {
        let (word, name) = text.split_once(':').ok_or_else(|| bad_provider(text))?;
        if let Some(kind) = ProviderKind::by_word(word) {
            return Self::new(kind, name);
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if word.is_empty() || word.len() > MAX_WORD_OCTETS || !word.chars().all(allowed) {
            return Err(bad_provider(text));
        }
        check_id(name)?;
        Ok(Self { kind: ProviderKind::Other, text: text.into() })
    }

    /// The provider's kind.
    #[must_use]
    pub fn kind(&self) -> ProviderKind {
        self.kind
    }

    /// The provider's name within its kind.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text.split_once(':').map_or("", |(_, name)| name)
    }

    /// The provider's kind and name, written `kind:name`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn bad_provider(text: &str) -> IdError {
    let (id, expected) = (text.chars().take(MAX_ID_OCTETS).collect(), ProviderKind::spellings());
    IdError::BadProvider { id, expected }
}

impl Serialize for ProviderId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ProviderId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(Self::decode))
    }
}

text_conversions!(IdError: ProviderId);

impl fmt::Debug for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_provider_is_written_with_its_kind() {
        let id = ProviderId::parse("file:web.toml").unwrap();
        assert_eq!((id.kind(), id.name()), (ProviderKind::File, "web.toml"));
        assert_eq!(id.to_string(), "file:web.toml");
        assert!(ProviderId::parse("web.toml").is_err());
        assert!(ProviderId::parse("ftp:x").is_err());
    }

    #[test]
    fn an_error_names_all_kinds() {
        let error = ProviderId::parse("ftp:x").unwrap_err().to_string();
        let expected = "provider \"ftp:x\" is not file:NAME, http:NAME, run:NAME or api:NAME";
        assert_eq!(error, expected);
    }

    #[test]
    fn a_path_may_leave_out_the_colon() {
        for (path, provider) in [
            ("deploy", Some("http:deploy")),
            ("run.web-1", Some("run:web-1")),
            ("runner", Some("http:runner")),
            ("file:web.toml", Some("file:web.toml")),
            ("api:instances", Some("api:instances")),
            ("run.", None),
            ("", None),
            ("ftp:x", None),
        ] {
            let parsed = ProviderId::parse_in_path(path).ok();
            assert_eq!(parsed.as_ref().map(ProviderId::as_str), provider, "{path:?}");
        }
    }

    #[test]
    fn no_two_kinds_are_written_alike() {
        let rows = ProviderKind::KNOWN.iter().map(|kind| kind.properties());
        let words: Vec<_> = rows.clone().map(|row| row.word).collect();
        let prefixes: Vec<_> = rows.filter_map(|row| row.path_prefix).collect();
        for mut texts in [words, prefixes] {
            let count = texts.len();
            texts.sort_unstable();
            texts.dedup();
            assert_eq!(texts.len(), count, "{texts:?}");
        }
        for kind in ProviderKind::KNOWN {
            let known = ProviderId::new(*kind, "x").unwrap();
            assert_eq!(ProviderId::decode(known.as_str()).unwrap().kind(), *kind);
        }
    }

    #[test]
    fn a_kind_of_a_newer_version_is_kept_as_it_is() {
        let newer = ProviderId::decode("docker:web.1").unwrap();
        assert_eq!((newer.kind(), newer.name()), (ProviderKind::Other, "web.1"));
        assert_eq!(newer.to_string(), "docker:web.1");
        assert_ne!(newer, ProviderId::decode("consul:web.1").unwrap());
        assert!(newer.kind().set_refusal().is_some());
        assert!(ProviderId::new(ProviderKind::Other, "web.1").is_err());
        for bad in ["docker", ":x", "Docker:x", "d r:x", "docker:", "docker:a/b", "file:"] {
            assert!(ProviderId::decode(bad).is_err(), "{bad:?}");
        }
        assert!(ProviderId::decode(&format!("{}:x", "k".repeat(MAX_WORD_OCTETS + 1))).is_err());
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(text in "[a-z:.]{0,12}|[ -~]{0,8}|.*") {
            for read in [ProviderId::decode(&text), ProviderId::parse(&text)].into_iter().flatten() {
                prop_assert_eq!(read.as_str(), &text);
                prop_assert_eq!(ProviderId::decode(read.as_str()).unwrap(), read);
            }
            let _ = ProviderId::parse_in_path(&text);
        }
    }
}
