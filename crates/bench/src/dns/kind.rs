//! The kinds of servers that are compared.

/// A kind of server. The variants stand in the order of the table's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServerKind {
    Dunlin,
    Nsd,
    Knot,
    Unbound,
    Echo,
}

impl ServerKind {
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
