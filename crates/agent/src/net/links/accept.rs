//! Makes a link of a stream that a peer opened.

use std::sync::Arc;

use dunlin_core::gossip::Frame;
use tracing::debug;

use super::greeting::{Greeting, LinkError};
use crate::net::Context;
use crate::net::transport::{OpeningError, Stream};

/// Opens a link on a stream that the transport accepted. A peer for which there is no room is told of other members.
pub(in crate::net) async fn accept(
    context: Arc<Context>,
    stream: Stream,
) -> Result<(), OpeningError> {
    let remote = stream.remote;
    let mut greeting = Greeting::new(&context, stream);
    let hello = greeting.hear(None).await?;
    let own = match greeting.own_hello(Some(hello.peer.id)).await {
        Err(LinkError::Full) => {
            debug!(%remote, "enough links are open; the peer is told of others");
            let members = Frame::Members(context.known.load().to_vec());
            return Ok(greeting.say(&members).await?);
        }
        own => own?,
    };
    greeting.say(&Frame::Hello(*own)).await?;
    greeting.finish(hello, false).await;
    Ok(())
}
