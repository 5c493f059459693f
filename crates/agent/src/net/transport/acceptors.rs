//! Which part of the agent accepts the streams of which protocol.

use std::collections::BTreeMap;
use std::fmt;

use futures_util::future::BoxFuture;

use super::protocol::Protocol;
use super::stream::{Stream, StreamError};
use crate::net::Fault;

/// Why an accepted stream is not used: what the peer did wrong, as it is counted and logged.
#[derive(Debug)]
pub(crate) struct OpeningError {
    /// What is counted.
    pub(crate) fault: Fault,
    /// What is logged.
    pub(crate) problem: String,
}

impl From<StreamError> for OpeningError {
    fn from(error: StreamError) -> Self {
        Self { fault: error.fault(), problem: error.to_string() }
    }
}

type Opening = BoxFuture<'static, Result<(), OpeningError>>;
type Accept = Box<dyn Fn(Stream) -> Opening + Send + Sync>;

/// The protocols that this agent serves, each with what accepts its streams.
#[derive(Default)]
pub(crate) struct Acceptors(BTreeMap<Protocol, Accept>);

impl fmt::Debug for Acceptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Acceptors {
    /// Has `accept` take the streams of a protocol; it takes the place of an earlier acceptor of the same protocol.
    ///
    /// The future that it returns is the opening of the stream: what both sides say before they trust each other to
    /// go on. It has to end within the time of a handshake, and until then the connection counts against the limits of
    /// its address. Whatever runs on the stream afterwards is a task of its own.
    pub(crate) fn register<F, Fut>(&mut self, protocol: Protocol, accept: F)
    where
        F: Fn(Stream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), OpeningError>> + Send + 'static,
    {
        self.0.insert(protocol, Box::new(move |stream| Box::pin(accept(stream))));
    }

    /// The registered protocols, in the order of their names.
    pub(super) fn protocols(&self) -> Vec<Protocol> {
        self.0.keys().copied().collect()
    }

    /// Hands a stream to the acceptor of its protocol and waits until it is open.
    pub(super) async fn open(&self, stream: Stream) -> Result<(), OpeningError> {
        let accept = self.0.get(&stream.protocol);
        let accept = accept.expect("TLS agrees on no protocol but a registered one");
        accept(stream).await
    }
}
