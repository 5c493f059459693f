//! Whether a peer's agent has died, asked of its host after a link broke.

use std::sync::Arc;
use std::time::Duration;

use dunlin_core::gossip::Peer;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::net::Context;
use crate::net::event::MembersRequest;
use crate::net::transport::StreamError;

/// How long the kernel may take to close what a process that died had open. This is shorter than the time that an agent
/// waits for the first octet, and for this long an agent that lives holds one of the slots of the address of this host.
const CLOSING_TIMEOUT: Duration = Duration::from_millis(500);
/// Connections that are made to an agent that ends each of them at once.
const MAX_VERIFICATIONS: usize = 3;

/// Asks a member's host whether a process still listens there; if none does, membership is told.
pub(super) async fn verify(context: &Arc<Context>, peer: Peer) {
    let transport = context.transport();
    let asking = is_abandoned(|| transport.connect(peer.address));
    if transport.stop().run_until_cancelled(asking).await == Some(true) {
        context.request(MembersRequest::Doubt(peer.id)).await;
    }
}

/// Whether an agent's host refuses connections. The kernel closes the streams of a process that died one by one, and
/// often the port that it listened on only after them: until then it still takes connections, and resets them then.
async fn is_abandoned<F>(mut connect: impl FnMut() -> F) -> bool
where
    F: Future<Output = Result<TcpStream, StreamError>>,
{
    for _ in 0..MAX_VERIFICATIONS {
        match connect().await {
            Ok(mut tcp) => {
                // An agent waits for the first octet, and says none itself.
                if timeout(CLOSING_TIMEOUT, tcp.read(&mut [0])).await.is_err() {
                    return false;
                }
            }
            Err(error) => return matches!(error, StreamError::Refused),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::net::TcpListener;

    use super::*;

    async fn connect(address: SocketAddr) -> Result<TcpStream, StreamError> {
        TcpStream::connect(address).await.map_err(StreamError::not_connected)
    }

    /// The clock stands still and jumps to the next deadline when nothing else is to be done.
    #[tokio::test(start_paused = true)]
    async fn a_host_that_holds_a_connection_is_not_abandoned() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(!is_abandoned(|| connect(address)).await);
    }

    #[tokio::test]
    async fn a_port_that_is_closed_right_after_a_connection_is_abandoned() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut dying = Some(listener);
        let asking = is_abandoned(|| {
            let dying = dying.take();
            async move {
                let result = connect(address).await;
                assert_eq!(result.is_ok(), dying.is_some(), "taken in while the port was open");
                result
            }
        });
        assert!(asking.await);
    }

    #[tokio::test]
    async fn an_agent_that_ends_connections_at_once_is_not_abandoned() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let refusing = async {
            while let Ok((stream, _)) = listener.accept().await {
                drop(stream);
            }
        };
        tokio::select! {
            () = refusing => unreachable!("it goes on"),
            is_abandoned = is_abandoned(|| connect(address)) => assert!(!is_abandoned),
        }
    }
}
