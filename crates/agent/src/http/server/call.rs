//! What a route declares about itself.

use super::{CredentialSource, Dialect, Right};

/// What a route declares about itself, in one place; the gate in front of the route enforces it.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct Call {
    /// The value of the label `call` in the metrics. Calls of one name are counted together.
    pub(in crate::http) metric: &'static str,
    /// What a caller has to be allowed.
    pub(in crate::http) right: Right,
    /// Where callers show their credentials.
    pub(in crate::http) credentials: CredentialSource,
    /// How refusals look.
    pub(in crate::http) dialect: &'static dyn Dialect,
    /// How large a body may be that the handler reads.
    pub(in crate::http) body: BodyLimit,
}

/// How many octets of a request's body are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct BodyLimit(pub(in crate::http) usize);

impl BodyLimit {
    /// The call reads no body. What is sent all the same is ignored.
    pub(in crate::http) const NONE: Self = Self(0);
}
