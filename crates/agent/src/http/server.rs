//! The machinery of HTTP that all dialects share: connections, the gate in front of each call, rights, measures,
//! bodies.
//!
//! Nothing in here knows a call, a path or the form of an answer. A route says in its [`Call`] what the machinery has
//! to know of it, and a [`Dialect`] puts refusals into the words of its clients. Nothing is derived from paths.

mod bodies;
mod call;
mod connection;
mod credentials;
mod dialect;
mod gate;
mod measures;
mod preface;
mod rebinding;
mod rights;

pub(super) use self::bodies::Bodies;
pub(super) use self::call::{BodyLimit, Call};
pub(super) use self::connection::Connection;
pub(super) use self::credentials::{BEARER, CredentialSource};
pub(super) use self::dialect::{Dialect, Reason, Refusal};
pub(super) use self::gate::Gate;
pub(super) use self::measures::Waited;
pub(super) use self::rebinding::OwnNames;
pub(super) use self::rights::Right;
