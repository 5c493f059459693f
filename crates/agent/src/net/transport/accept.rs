//! From a connection that a peer opened to a stream of one of the registered protocols.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsStream;
use tracing::debug;

use super::acceptors::{Acceptors, OpeningError};
use super::admission::{Admission, HandshakeSlot, Unauthenticated};
use super::stream::{Stream, StreamError, tune};
use super::{HANDSHAKE_TIMEOUT, Transport};
use crate::net::Fault;

/// How long the first octet of an accepted connection may take: an agent that has something to say says it at once.
const FIRST_OCTET_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause after the kernel could not accept a connection, as when the process is out of descriptors: meanwhile
/// some may be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The address of the other end when no connection came about.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Accepts connections until the agent stops.
pub(super) async fn accept_all(
    transport: Arc<Transport>,
    listener: TcpListener,
    acceptors: Arc<Acceptors>,
) {
    let admission = Admission::default();
    let stop = transport.stop.clone();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (tcp, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                transport.report(UNKNOWN, Fault::Connections, &error.to_string());
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(slot) = admission.take_slot(remote.ip()) else {
            let problem = "too many connections that are not open streams yet";
            transport.report(remote.ip(), Fault::Connections, problem);
            continue;
        };
        let connection = Connection { tcp, remote, unauthenticated: admission.admit(), slot };
        transport.tasks.spawn(connection.serve(Arc::clone(&transport), Arc::clone(&acceptors)));
    }
}

/// An accepted connection that is not an open stream yet.
struct Connection {
    tcp: TcpStream,
    remote: SocketAddr,
    unauthenticated: Unauthenticated,
    slot: HandshakeSlot,
}

impl Connection {
    async fn serve(self, transport: Arc<Transport>, acceptors: Arc<Acceptors>) {
        let Self { tcp, remote, unauthenticated, slot } = self;
        let pushed_out = unauthenticated.pushed_out().clone();
        let opening = open(&transport, &acceptors, tcp, remote, unauthenticated);
        tokio::select! {
            () = transport.stop.cancelled() => {}
            () = pushed_out.cancelled() => {
                let problem = "dropped for a newer connection, since too many show no certificate";
                transport.report(remote.ip(), Fault::Connections, problem);
            }
            opened = timeout(HANDSHAKE_TIMEOUT, opening) => match opened {
                Ok(Ok(())) => {}
                Ok(Err(OpeningError { fault, problem })) => {
                    transport.report(remote.ip(), fault, &problem);
                }
                Err(_) => transport.report(remote.ip(), Fault::Handshake, "not opened in time"),
            }
        }
        drop(slot);
    }
}

async fn open(
    transport: &Transport,
    acceptors: &Acceptors,
    tcp: TcpStream,
    remote: SocketAddr,
    unauthenticated: Unauthenticated,
) -> Result<(), OpeningError> {
    if transport.side.is_mute_to(remote.ip()) {
        return Ok(());
    }
    if !has_first_octet(&tcp).await? {
        debug!(%remote, "a connection ended before anything was said");
        return Ok(());
    }
    tune(&tcp);
    let acceptor = transport.credentials.acceptor();
    let accepted = acceptor.accept(tcp, remote, &acceptors.protocols()).await;
    let (tls, peer, protocol) = accepted.map_err(StreamError::from)?;
    drop(unauthenticated);
    acceptors.open(Stream { peer, remote, protocol, tls: TlsStream::Server(tls) }).await
}

/// Waits for the first octet. False when the connection ends before: that is how agents ask whether a process still
/// listens here.
async fn has_first_octet(tcp: &TcpStream) -> Result<bool, StreamError> {
    match timeout(FIRST_OCTET_TIMEOUT, tcp.peek(&mut [0])).await {
        Ok(Ok(octets)) => Ok(octets > 0),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
        Ok(Err(error)) => Err(StreamError::Io(error)),
        Err(_) => Err(StreamError::Silent),
    }
}
