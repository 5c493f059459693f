use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::model::NodeName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::admission::MAX_HANDSHAKES_PER_ADDRESS;
use super::tls::HandshakeError;
use super::tls::pki::{Pki, node, zone};
use super::*;

const ONE: Protocol = Protocol::new("one/1");
const TWO: Protocol = Protocol::new("two/1");
/// Generous: only reached when something is broken.
const DEADLINE: Duration = Duration::from_secs(60);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it happens in time")
}

/// One agent's transport, on a free port of the loopback.
struct Endpoint {
    transport: Arc<Transport>,
    address: SocketAddr,
}

impl Endpoint {
    fn start(pki: &Pki, name: &str, acceptors: Acceptors) -> Self {
        Self::behind(None, pki, name, acceptors)
    }

    fn behind(fence: Option<Arc<Fence>>, pki: &Pki, name: &str, acceptors: Acceptors) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (credentials, stop) = (Arc::new(pki.shared(name)), CancellationToken::new());
        let transport = Arc::new(Transport::new(address, address, credentials, fence, stop));
        transport.serve(listener, acceptors).unwrap();
        Self { transport, address }
    }

    /// Opens a stream to another agent, and says nothing on it.
    async fn dial(
        &self,
        to: &Self,
        protocol: Protocol,
        expected: Option<&NodeName>,
    ) -> Result<Stream, StreamError> {
        let opening = |stream| async { Ok(stream) };
        within(self.transport.dial(to.address, protocol, expected, opening)).await
    }

    fn count(&self, fault: Fault) -> u64 {
        self.transport.faults().find(|(kind, _)| *kind == fault).unwrap().1
    }

    /// Waits until a fault was counted.
    async fn counted(&self, fault: Fault) {
        within(async {
            while self.count(fault) == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// An acceptor that hands over what it is given.
fn register(acceptors: &mut Acceptors, protocol: Protocol) -> mpsc::Receiver<Stream> {
    let (streams, accepted) = mpsc::channel(16);
    acceptors.register(protocol, move |stream| {
        let streams = streams.clone();
        async move {
            streams.send(stream).await.expect("the test waits for it");
            Ok(())
        }
    });
    accepted
}

/// Says something at one end of a stream and hears it at the other.
async fn assert_connected(mut one: Stream, mut other: Stream) {
    let mut heard = [0; 5];
    let said = async {
        one.tls.write_all(b"hello").await.unwrap();
        one.tls.flush().await.unwrap();
    };
    let (_, read) = within(async { tokio::join!(said, other.tls.read_exact(&mut heard)) }).await;
    read.unwrap();
    assert_eq!(&heard, b"hello");
}

#[tokio::test]
async fn each_stream_reaches_the_acceptor_of_its_protocol_and_says_which_node_is_there() {
    let (pki, mut acceptors) = (Pki::new(), Acceptors::default());
    let mut ones = register(&mut acceptors, ONE);
    let mut twos = register(&mut acceptors, TWO);
    let server = Endpoint::start(&pki, "a", acceptors);
    for name in ["b", "c"] {
        let client = Endpoint::start(&pki, name, Acceptors::default());
        for (protocol, accepted) in [(TWO, &mut twos), (ONE, &mut ones)] {
            let dialed = client.dial(&server, protocol, Some(&node("a"))).await.unwrap();
            let accepted = within(accepted.recv()).await.unwrap();
            assert_eq!((dialed.protocol, accepted.protocol), (protocol, protocol));
            assert_eq!((&dialed.peer.node, &dialed.peer.zone), (&node("a"), &zone()));
            assert_eq!((&accepted.peer.node, &accepted.peer.zone), (&node(name), &zone()));
            assert_eq!(dialed.remote, server.address);
            assert_eq!(accepted.remote, dialed.tls.get_ref().0.local_addr().unwrap());
            assert_connected(dialed, accepted).await;
        }
    }
    assert!(ones.try_recv().is_err() && twos.try_recv().is_err(), "nothing came to both");
    assert!(server.transport.faults().all(|(_, count)| count == 0));
}

#[tokio::test]
async fn a_protocol_that_is_not_registered_is_refused_and_counted() {
    let (pki, mut acceptors) = (Pki::new(), Acceptors::default());
    let mut ones = register(&mut acceptors, ONE);
    let server = Endpoint::start(&pki, "a", acceptors);
    let client = Endpoint::start(&pki, "b", Acceptors::default());
    let error = client.dial(&server, TWO, None).await.unwrap_err();
    assert!(error.to_string().ends_with("the peer does not speak two/1 on this port"), "{error}");
    assert_eq!((error.fault(), error.is_refusal()), (Fault::Protocol, true));
    server.counted(Fault::Protocol).await;
    assert_eq!(server.count(Fault::Handshake), 0);
    assert!(client.dial(&server, ONE, None).await.is_ok());
    assert_eq!(within(ones.recv()).await.unwrap().protocol, ONE);
    assert!(ones.try_recv().is_err());
    assert_eq!(server.count(Fault::Protocol), 1);
}

#[tokio::test]
async fn an_agent_that_serves_no_protocol_opens_no_stream() {
    let pki = Pki::new();
    let server = Endpoint::start(&pki, "a", Acceptors::default());
    let client = Endpoint::start(&pki, "b", Acceptors::default());
    let error = client.dial(&server, ONE, None).await.unwrap_err();
    assert!(error.to_string().contains("the peer does not say that it speaks one/1"), "{error}");
    assert_eq!(error.fault(), Fault::Protocol);
    server.counted(Fault::Protocol).await;
}

#[tokio::test]
async fn a_stream_to_another_node_than_the_expected_one_is_refused() {
    let (pki, mut acceptors) = (Pki::new(), Acceptors::default());
    let _ones = register(&mut acceptors, ONE);
    let server = Endpoint::start(&pki, "a", acceptors);
    let client = Endpoint::start(&pki, "b", Acceptors::default());
    let error = client.dial(&server, ONE, Some(&node("c"))).await.unwrap_err();
    assert!(matches!(error, StreamError::Handshake(HandshakeError::Refused { .. })), "{error}");
    assert!(error.to_string().contains("node c was expected"), "{error}");
    assert_eq!((error.fault(), error.is_refusal()), (Fault::Handshake, true));
    server.counted(Fault::Handshake).await;
}

#[tokio::test]
async fn the_connections_of_one_address_are_limited_over_all_protocols_together() {
    let (pki, mut acceptors) = (Pki::new(), Acceptors::default());
    let (opened, mut openings) = mpsc::channel(16);
    let release = CancellationToken::new();
    for protocol in [ONE, TWO] {
        let (opened, release) = (opened.clone(), release.clone());
        acceptors.register(protocol, move |stream| {
            let (opened, release) = (opened.clone(), release.clone());
            async move {
                opened.send(stream.protocol).await.expect("the test waits for it");
                release.cancelled().await;
                Ok(())
            }
        });
    }
    let server = Endpoint::start(&pki, "a", acceptors);
    let client = Endpoint::start(&pki, "b", Acceptors::default());
    let mut streams = Vec::new();
    for protocol in [ONE, TWO].into_iter().cycle().take(MAX_HANDSHAKES_PER_ADDRESS) {
        streams.push(client.dial(&server, protocol, None).await.unwrap());
        assert_eq!(within(openings.recv()).await, Some(protocol));
    }
    assert_eq!(server.count(Fault::Connections), 0);
    for protocol in [ONE, TWO] {
        assert!(client.dial(&server, protocol, None).await.is_err(), "no slot is free");
    }
    assert_eq!(server.count(Fault::Connections), 2);
    assert!(openings.try_recv().is_err());
    release.cancel();
    within(async { while client.dial(&server, TWO, None).await.is_err() {} }).await;
    assert_eq!(within(openings.recv()).await, Some(TWO), "open streams hold no slots");
}

#[tokio::test]
async fn what_an_acceptor_refuses_is_counted_as_it_says() {
    let (pki, mut acceptors) = (Pki::new(), Acceptors::default());
    acceptors.register(ONE, |_| async {
        Err(OpeningError { fault: Fault::Hello, problem: "no hello".to_owned() })
    });
    let server = Endpoint::start(&pki, "a", acceptors);
    let client = Endpoint::start(&pki, "b", Acceptors::default());
    let mut stream = client.dial(&server, ONE, None).await.unwrap();
    server.counted(Fault::Hello).await;
    // The stream breaks, as nothing said goodbye.
    assert!(within(stream.tls.read_exact(&mut [0])).await.is_err());
}

#[tokio::test]
async fn an_opening_that_never_ends_is_given_up_at_either_end() {
    let (pki, mut acceptors) = (Pki::new(), Acceptors::default());
    let mut ones = register(&mut acceptors, ONE);
    let (opened, mut twos) = mpsc::channel(1);
    acceptors.register(TWO, move |stream| {
        let opened = opened.clone();
        async move {
            opened.send(()).await.expect("the test waits for it");
            let _held = stream;
            pending().await
        }
    });
    let server = Endpoint::start(&pki, "a", acceptors);
    let client = Endpoint::start(&pki, "b", Acceptors::default());
    let _stream = client.dial(&server, TWO, None).await.unwrap();
    within(twos.recv()).await.unwrap();
    let hanging = |_| pending::<Result<(), StreamError>>();
    let dialling = client.transport.dial(server.address, ONE, None, hanging);
    // From here on nothing is on its way, so the clock need not go by itself.
    let pass_time = async {
        ones.recv().await.unwrap();
        tokio::time::pause();
        tokio::time::advance(HANDSHAKE_TIMEOUT).await;
    };
    let (dialed, ()) = tokio::join!(dialling, pass_time);
    assert!(matches!(dialed, Err(StreamError::Late)));
    server.counted(Fault::Handshake).await;
}

#[tokio::test]
async fn no_stream_is_opened_through_a_fence() {
    let (pki, mut acceptors) = (Pki::new(), Acceptors::default());
    let mut ones = register(&mut acceptors, ONE);
    let server = Endpoint::start(&pki, "a", acceptors);
    let fence = Arc::new(Fence::new());
    let client = Endpoint::behind(Some(Arc::clone(&fence)), &pki, "b", Acceptors::default());
    fence.cut(client.address.ip(), server.address.ip());
    let error = client.dial(&server, ONE, None).await.unwrap_err();
    assert!(matches!(error, StreamError::Late), "{error}");
    fence.heal();
    assert!(client.dial(&server, ONE, None).await.is_ok());
    within(ones.recv()).await.unwrap();
    assert!(ones.try_recv().is_err());
}

#[tokio::test]
async fn every_task_ends_when_the_agent_stops() {
    let (pki, mut acceptors) = (Pki::new(), Acceptors::default());
    let (opened, mut openings) = mpsc::channel(1);
    acceptors.register(ONE, move |_| {
        let opened = opened.clone();
        async move {
            opened.send(()).await.expect("the test waits for it");
            pending().await
        }
    });
    let server = Endpoint::start(&pki, "a", acceptors);
    let client = Endpoint::start(&pki, "b", Acceptors::default());
    let _stream = client.dial(&server, ONE, None).await.unwrap();
    within(openings.recv()).await.unwrap();
    server.transport.stop().cancel();
    within(server.transport.stopped()).await;
    let error = client.dial(&server, ONE, None).await.unwrap_err();
    assert!(matches!(error, StreamError::Refused), "{error}");
}
