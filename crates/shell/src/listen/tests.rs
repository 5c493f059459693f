//! Listening with a made-up protocol: the server says a word and waits for the client to close.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::AsyncReadExt;

use super::*;
use crate::metrics::{Metric, Observer};

const DEADLINE: Duration = Duration::from_secs(60);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("it should have happened by now")
}

struct Greeting(Ending);

impl Serve for Greeting {
    fn refusal(&self) -> &[u8] {
        b"full"
    }

    async fn serve<S>(self: Arc<Self>, mut stream: S, _: Origin, slot: &Slot) -> Option<Shed>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        stream.write_all(b"hello").await.ok()?;
        let mut octet = [0; 1];
        tokio::select! {
            read = stream.read(&mut octet) => read.err().and_then(|error| Shed::of(&error)),
            () = slot.lost() => Some(Shed::Crowded),
            () = self.0.abort.cancelled() => None,
        }
    }
}

struct Fixture {
    server: Server,
    observer: Observer,
    ending: Ending,
    address: SocketAddr,
}

fn start(max_tcp: usize) -> Fixture {
    let ending = Ending::new(CancellationToken::new());
    let observer = Observer::new();
    let limits = AdmissionLimits { max_tcp, max_tcp_per_client: max_tcp, max_local: 1 };
    let metrics = AdmissionMetrics {
        open: Metric::gauge("test_connections", "Open connections"),
        refused: Metric::counter("test_refused", "Refused connections"),
        shed: Metric::counter("test_shed", "Ended connections"),
    };
    let admission = Admission::register(&observer, limits, metrics);
    let tcp = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = tcp.local_addr().unwrap();
    let listeners = Listeners { tcp: vec![tcp], local: None, credentials: None };
    let drain = Duration::from_millis(50);
    let timeouts = Timeouts { write: DEADLINE, handshake: DEADLINE, drain };
    let protocol = Arc::new(Greeting(ending.clone()));
    let server = Server::start(listeners, protocol, admission, timeouts, ending.clone()).unwrap();
    Fixture { server, observer, ending, address }
}

impl Fixture {
    /// A new connection, and the word with which it begins.
    async fn connect(&self) -> (TcpStream, String) {
        let mut stream = soon(TcpStream::connect(self.address)).await.unwrap();
        let mut word = [0; 16];
        let len = soon(stream.read(&mut word)).await.unwrap();
        (stream, String::from_utf8_lossy(&word[..len]).into_owned())
    }

    async fn shows_soon(&self, line: &str) {
        soon(async {
            while !self.observer.scrape().unwrap().lines().any(|l| l == line) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_told_so_and_a_slot_is_free_when_one_has_ended() {
    let fixture = start(1);
    let (first, word) = fixture.connect().await;
    assert_eq!(word, "hello");
    assert_eq!(fixture.connect().await.1, "full");
    fixture.shows_soon("dunlin_test_refused_total{transport=\"tcp\"} 1.0").await;
    drop(first);
    fixture.shows_soon("dunlin_test_connections{transport=\"tcp\"} 0.0").await;
    assert_eq!(fixture.connect().await.1, "hello");
}

#[tokio::test]
async fn a_connection_that_does_not_end_at_the_shutdown_is_cut_off() {
    let fixture = start(2);
    let (mut stream, _) = fixture.connect().await;
    fixture.ending.shutdown.cancel();
    soon(fixture.server.stopped()).await;
    let mut rest = Vec::new();
    assert_eq!(soon(stream.read_to_end(&mut rest)).await.unwrap(), 0, "it was closed");
    assert!(TcpStream::connect(fixture.address).await.is_err(), "nobody listens any more");
}

#[test]
fn errors_of_streams_tell_why_a_connection_ended() {
    let stalled = io::Error::new(io::ErrorKind::TimedOut, crate::Stalled);
    assert_eq!(Shed::of(&stalled), Some(Shed::Stalled));
    assert_eq!(Shed::of(&io::Error::from(io::ErrorKind::TimedOut)), Some(Shed::Vanished));
    assert_eq!(Shed::of(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
}

#[tokio::test]
async fn the_kernel_is_told_to_give_up_on_hosts_that_are_gone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    watch_over(&stream, Duration::from_secs(20)).unwrap();
    let socket = SockRef::from(&stream);
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(20)));
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_DELAY);
}
