//! Opens a link to an address.

use std::net::SocketAddr;
use std::sync::Arc;

use dunlin_core::gossip::{Frame, Peer};
use tracing::debug;

use super::GOSSIP;
use super::greeting::{Greeting, LinkError};
use crate::net::Context;
use crate::net::event::{MembersRequest, NetEvent};
use crate::net::transport::{Stream, StreamError};

impl Context {
    /// Opens a link to a member. The driver is told of the link, or that the member could not be dialled.
    pub(crate) fn dial(self: &Arc<Self>, peer: Peer) {
        self.transport().tasks().spawn(dial_member(Arc::clone(self), peer));
    }
}

async fn dial_member(context: Arc<Context>, peer: Peer) {
    let dialling = dial(&context, peer.address, Some(peer));
    let result = context.transport().stop().run_until_cancelled(dialling).await;
    let Some(Err(error)) = result else { return };
    debug!(node = %peer.id, address = %peer.address, %error, "no link");
    if let LinkError::Stream(StreamError::Refused) = error {
        context.request(MembersRequest::Doubt(peer.id)).await;
    } else if error.is_refusal() {
        context.report(peer.id, error.fault(), &error.to_string());
    }
    context.tell(NetEvent::DialFailed(peer.id)).await;
}

/// Opens a link to the agent that listens at an address; to this member alone, if one is given.
pub(super) async fn dial(
    context: &Arc<Context>,
    address: SocketAddr,
    member: Option<Peer>,
) -> Result<(), LinkError> {
    // The certificate names a node and not its id: whether the member answers is seen from its hello.
    let opening = |stream| greet(context, stream, member);
    context.transport().dial(address, GOSSIP, None, opening).await
}

async fn greet(
    context: &Arc<Context>,
    stream: Stream,
    member: Option<Peer>,
) -> Result<(), LinkError> {
    let mut greeting = Greeting::new(context, stream);
    let own = greeting.own_hello(member.map(|member| member.id)).await?;
    greeting.say(&Frame::Hello(*own)).await?;
    let hello = greeting.hear(member).await?;
    greeting.finish(hello, true).await;
    Ok(())
}
