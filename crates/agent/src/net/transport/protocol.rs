//! The name of a protocol.

use std::fmt;

/// The name of a protocol between agents, by which TLS lets both sides agree on it (ALPN, RFC 7301 §3.1), e.g.
/// `dunlin/1`. A version that older agents cannot understand gets a name of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(&'static str);

impl Protocol {
    /// Names a protocol.
    ///
    /// # Panics
    /// When the name has no octets, or more than the 255 that fit into a TLS message. Names are constants, so this
    /// happens while compiling.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        assert!(!name.is_empty() && name.len() <= 255, "a name has 1 to 255 octets");
        Self(name)
    }

    /// The name as TLS sends it.
    #[must_use]
    pub const fn as_bytes(self) -> &'static [u8] {
        self.0.as_bytes()
    }

    /// Several names as errors have them: `a/1 or b/1`.
    pub(super) fn either(protocols: &[Self]) -> String {
        let names: Vec<&str> = protocols.iter().map(|protocol| protocol.0).collect();
        names.join(" or ")
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
