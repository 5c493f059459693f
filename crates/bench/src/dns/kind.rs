//! The servers that are compared.

/// A server. The variants stand in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Dunlin,
    Nsd,
    Knot,
    Unbound,
    Echo,
}

impl Kind {
    pub(super) const ALL: [Self; 5] =
        [Self::Dunlin, Self::Nsd, Self::Knot, Self::Unbound, Self::Echo];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dunlin => "Dunlin",
            Self::Nsd => "NSD",
            Self::Knot => "Knot",
            Self::Unbound => "unbound",
            Self::Echo => "echo",
        }
    }
}
