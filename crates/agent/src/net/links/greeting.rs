//! The exchange of hellos, after which a stream is a link.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use dunlin_core::gossip::{Evidence, Frame, Hello, HelloError, Lane, Peer};
use dunlin_core::model::{NodeId, Timestamp};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::oneshot;

use super::framing::{FrameReader, FrameWriter};
use super::running;
use crate::net::event::{MembersRequest, NetEvent};
use crate::net::tls::explain;
use crate::net::transport::{OpeningError, Stream, StreamError};
use crate::net::{Context, Fault};

/// Why no link came about.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// There is no stream.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The stream broke while hellos were exchanged. In TLS 1.3 a client learns only now that its certificate was
    /// refused.
    #[error("{}", explain(.0))]
    Broken(io::Error),
    /// What the peer said first is no hello.
    #[error("{0}")]
    NoHello(String),
    /// What the peer said first cannot be true.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// One of both agents takes no further links.
    #[error("enough links are open")]
    Full,
}

impl LinkError {
    /// Whether the peer answered, and one of both sides does not take the other: a person must act.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Stream(error) => error.is_refusal(),
            Self::Broken(_) | Self::NoHello(_) | Self::Hello(_) => true,
            Self::Full => false,
        }
    }

    /// The fault as which the error is counted.
    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::Stream(error) => error.fault(),
            Self::Broken(_) => Fault::Handshake,
            Self::NoHello(_) | Self::Hello(_) => Fault::Hello,
            Self::Full => Fault::Stream,
        }
    }
}

impl From<LinkError> for OpeningError {
    fn from(error: LinkError) -> Self {
        Self { fault: error.fault(), problem: error.to_string() }
    }
}

/// A stream on which hellos are exchanged.
pub(super) struct Greeting<'a> {
    context: &'a Arc<Context>,
    stream: Stream,
    reader: FrameReader,
}

impl<'a> Greeting<'a> {
    pub(super) fn new(context: &'a Arc<Context>, stream: Stream) -> Self {
        Self { context, stream, reader: FrameReader::default() }
    }

    /// What this agent says to a node first, or to an unknown one.
    pub(super) async fn own_hello(&self, to: Option<NodeId>) -> Result<Box<Hello>, LinkError> {
        let (reply, answer) = oneshot::channel();
        self.context.tell(NetEvent::Hello { to, reply }).await;
        answer.await.ok().flatten().ok_or(LinkError::Full)
    }

    /// Sends a frame.
    pub(super) async fn say(&mut self, frame: &Frame) -> Result<(), LinkError> {
        let stream = &mut self.stream.tls;
        let mut frame = FrameWriter::new(Lane::Normal, frame.encode());
        while !frame.write_piece(stream).await.map_err(LinkError::Broken)? {}
        stream.flush().await.map_err(LinkError::Broken)
    }

    /// Reads the hello of the peer and judges whether it can be true. `dialed` is the member that was dialled, if this
    /// agent dialled one.
    pub(super) async fn hear(&mut self, dialed: Option<Peer>) -> Result<Box<Hello>, LinkError> {
        let octets = self.reader.next(&mut self.stream.tls).await.map_err(LinkError::Broken)?;
        let octets = octets.ok_or_else(|| {
            LinkError::NoHello("the peer closed the stream before it said hello".to_owned())
        })?;
        match Frame::decode(&octets) {
            Ok(Frame::Hello(hello)) => Ok(Box::new(self.judge(hello, dialed)?)),
            // The peer has enough links, and tells of others.
            Ok(Frame::Members(members)) => {
                self.context.request(MembersRequest::Introduce(members)).await;
                Err(LinkError::Full)
            }
            Ok(_) => Err(LinkError::NoHello("the peer did not say hello first".to_owned())),
            Err(error) => Err(LinkError::NoHello(error.to_string())),
        }
    }

    /// Judges a hello by what this agent knows at the moment.
    fn judge(&self, hello: Hello, dialed: Option<Peer>) -> Result<Hello, HelloError> {
        let view = self.context.shared.view.load();
        let live = view.nodes().find(|node| node.id == hello.peer.id && node.is_live());
        let identity = &self.stream.peer;
        let evidence = Evidence {
            node: &identity.node,
            zone: &identity.zone,
            known_as: live.map(|node| &node.row.name),
            dialed,
        };
        let now = Timestamp::from_system(SystemTime::now());
        hello.judge(&evidence, self.context.own_peer().id, now)
    }

    /// Makes the stream a link, and tells the driver.
    pub(super) async fn finish(self, hello: Box<Hello>, is_dialed: bool) {
        let link = running::start(self.context, hello.peer, self.stream, self.reader);
        self.context.tell(NetEvent::Linked { hello, is_dialed, link }).await;
    }
}
