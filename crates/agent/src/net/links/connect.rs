//! From a TCP connection to a link: TLS in both directions, then hello in both directions.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use dunlin_core::gossip::{Evidence, Frame, Hello, HelloError, Lane, Peer};
use dunlin_core::model::{NodeId, Timestamp};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::framing::{Reader, Written};
use super::link;
use crate::net::event::{Event, Request};
use crate::net::tls::{self, PeerIdentity};
use crate::net::{Context, Fault};

/// How long each step may take until a link is open.
const CONNECT_TIME: Duration = Duration::from_secs(3);
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);
/// How long until the first octet of an accepted connection: an agent that has something to say says it at once.
const FIRST_OCTET_TIME: Duration = Duration::from_secs(1);
/// How long the kernel may take to close what a process had open that died; shorter than the time above. So long an
/// agent that lives holds a connection of [`HANDSHAKES_PER_ADDRESS`].
const CLOSING_TIME: Duration = Duration::from_millis(500);
/// How often an agent is asked for that ends the connections at once.
const VERIFICATIONS: usize = 3;
/// Connections that have not shown a certificate yet; for a further one the oldest of them is dropped.
const STRANGERS: usize = 64;
/// Connections that are not links yet, per address (IPv6: per network of 64 bits, which one host may have whole).
const HANDSHAKES_PER_ADDRESS: usize = 8;
/// The kernel gives a stream up when what was sent is not acknowledged for so long.
const USER_TIMEOUT: Duration = Duration::from_secs(8);
/// Octets that the kernel holds for a slow peer: few, so that urgent frames do not wait behind many others.
const SEND_BUFFER: usize = 256 * 1024;

/// Why no link came about.
#[derive(Debug, thiserror::Error)]
pub(in crate::net) enum ConnectError {
    /// The host is there and nobody listens.
    #[error("connection refused: no agent listens there")]
    Refused,
    /// Something on the way.
    #[error("{0}")]
    Io(io::Error),
    /// The other side did not do its part in time.
    #[error("no answer in time; is it an agent's cluster port?")]
    Late,
    /// TLS, with the reason.
    #[error("{0}")]
    Tls(String),
    /// What the peer said first is no hello.
    #[error("{0}")]
    Protocol(String),
    /// What the peer said first cannot be true.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// This agent takes no further links.
    #[error("enough links are open")]
    Full,
}

/// Accepts connections until the agent stops.
pub(in crate::net) async fn accept_all(context: Arc<Context>, listener: TcpListener) {
    let strangers = Arc::new(Mutex::new(Strangers::default()));
    let per_address = Arc::new(Mutex::new(BTreeMap::<IpAddr, usize>::new()));
    let stop = context.stop.clone();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                context.report(IpAddr::from([0, 0, 0, 0]), Fault::Connections, &error.to_string());
                // Out of descriptors: the pause lets some be closed.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(turn) = Turn::take(&per_address, remote.ip()) else {
            let problem = "too many connections that are not links";
            context.report(remote.ip(), Fault::Connections, problem);
            continue;
        };
        let stranger = Stranger::admit(&strangers);
        context.tasks.spawn(serve(Arc::clone(&context), stream, remote, stranger, turn));
    }
}

async fn serve(
    context: Arc<Context>,
    stream: TcpStream,
    remote: SocketAddr,
    stranger: Stranger,
    turn: Turn,
) {
    let (stop, dropped) = (context.stop.clone(), stranger.dropped.clone());
    let accepting = timeout(HANDSHAKE_TIME, accept(&context, stream, remote, stranger));
    tokio::select! {
        () = stop.cancelled() => {}
        () = dropped.cancelled() => {
            let problem = "dropped for a newer connection, since too many show no certificate";
            context.report(remote.ip(), Fault::Connections, problem);
        }
        accepted = accepting => match accepted {
            Ok(Ok(())) => {}
            Ok(Err(error)) => context.report(remote.ip(), error.fault(), &error.to_string()),
            Err(_) => context.report(remote.ip(), Fault::Handshake, "no hello in time"),
        }
    }
    drop(turn);
}

/// The connections that have not shown a certificate, oldest first.
#[derive(Debug, Default)]
struct Strangers {
    next: u64,
    waiting: BTreeMap<u64, CancellationToken>,
}

/// A connection that has not shown a certificate.
struct Stranger {
    number: u64,
    dropped: CancellationToken,
    all: Arc<Mutex<Strangers>>,
}

impl Stranger {
    /// Lets one more in. Those who wait longest are the likeliest never to show one, so they make room.
    fn admit(all: &Arc<Mutex<Strangers>>) -> Self {
        let mut strangers = all.lock().unwrap_or_else(PoisonError::into_inner);
        while strangers.waiting.len() >= STRANGERS
            && let Some((_, oldest)) = strangers.waiting.pop_first()
        {
            oldest.cancel();
        }
        let (number, dropped) = (strangers.next, CancellationToken::new());
        strangers.next += 1;
        strangers.waiting.insert(number, dropped.clone());
        Self { number, dropped, all: Arc::clone(all) }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut strangers = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        strangers.waiting.remove(&self.number);
    }
}

/// What counts as one address: whoever has an IPv6 address has all of its network of 64 bits.
fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// One of the connections that an address may have open before they are links.
struct Turn {
    address: IpAddr,
    counts: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

impl Turn {
    fn take(counts: &Arc<Mutex<BTreeMap<IpAddr, usize>>>, address: IpAddr) -> Option<Self> {
        let address = counted(address);
        let mut held = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(address).or_insert(0);
        if *count >= HANDSHAKES_PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Self { address, counts: Arc::clone(counts) })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut held = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.address);
            }
        }
    }
}

impl ConnectError {
    /// Whether somebody answered, and one of both sides does not take the other: a person must act.
    pub(in crate::net) fn is_refusal(&self) -> bool {
        match self {
            Self::Tls(_) | Self::Protocol(_) | Self::Hello(_) => true,
            Self::Refused | Self::Io(_) | Self::Late | Self::Full => false,
        }
    }

    pub(in crate::net) fn fault(&self) -> Fault {
        match self {
            Self::Protocol(_) | Self::Hello(_) => Fault::Hello,
            Self::Refused | Self::Io(_) | Self::Late | Self::Full => Fault::Stream,
            Self::Tls(_) => Fault::Handshake,
        }
    }
}

async fn accept(
    context: &Arc<Context>,
    stream: TcpStream,
    remote: SocketAddr,
    stranger: Stranger,
) -> Result<(), ConnectError> {
    if context.side.is_mute_to(remote.ip()) {
        return Ok(());
    }
    if !speaks(&stream).await? {
        debug!(%remote, "a connection ended before anything was said");
        return Ok(());
    }
    tune(&stream);
    let accepted = context.credentials.acceptor().accept(stream, remote).await;
    let (stream, identity) = accepted.map_err(|error| ConnectError::Tls(error.to_string()))?;
    drop(stranger);
    let (mut stream, mut reader) = (TlsStream::Server(stream), Reader::default());
    let hello = read_hello(context, &mut stream, &mut reader, &identity, None).await?;
    let own = match own_hello(context, Some(hello.peer.id)).await {
        Err(ConnectError::Full) => {
            debug!(%remote, "enough links are open; the peer is told of others");
            let members = Frame::Members(context.known.load().to_vec()).encode();
            return write_frame(&mut stream, members).await;
        }
        own => own?,
    };
    write_frame(&mut stream, Frame::Hello(*own).encode()).await?;
    open(context, hello, false, remote, stream, reader).await;
    Ok(())
}

/// Waits for the first octet. False when the stream ends before: that is how agents ask whether anybody listens.
async fn speaks(stream: &TcpStream) -> Result<bool, ConnectError> {
    match timeout(FIRST_OCTET_TIME, stream.peek(&mut [0])).await {
        Ok(Ok(octets)) => Ok(octets > 0),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
        Ok(Err(error)) => Err(ConnectError::Io(error)),
        Err(_) => Err(ConnectError::Tls("nothing was said in time".to_owned())),
    }
}

/// Opens a link to a member, and tells the driver what came of it.
pub(in crate::net) async fn dial_member(context: Arc<Context>, peer: Peer) {
    let stop = context.stop.clone();
    let dialling = dial(&context, peer.address, Some(peer));
    let Some(result) = stop.run_until_cancelled(dialling).await else { return };
    let Err(error) = result else { return };
    debug!(node = %peer.id, address = %peer.address, %error, "no link");
    match &error {
        ConnectError::Refused => context.request(Request::Doubt(peer.id)).await,
        ConnectError::Tls(_) | ConnectError::Protocol(_) | ConnectError::Hello(_) => {
            context.report(peer.id, error.fault(), &error.to_string());
        }
        ConnectError::Io(_) | ConnectError::Late | ConnectError::Full => {}
    }
    context.tell(Event::DialFailed(peer.id)).await;
}

/// Asks a member's host whether anybody still listens there, after a link broke.
pub(in crate::net) async fn verify(context: Arc<Context>, peer: Peer) {
    let stop = context.stop.clone();
    let asking = is_abandoned(|| connect(&context, peer.address));
    if stop.run_until_cancelled(asking).await == Some(true) {
        context.request(Request::Doubt(peer.id)).await;
    }
}

/// Whether an agent's host refuses connections. The kernel closes the streams of a process that died one by one, and
/// often the port that it listened on only after them: until then it still takes connections, and resets them then.
async fn is_abandoned<F>(mut connect: impl FnMut() -> F) -> bool
where
    F: Future<Output = Result<TcpStream, ConnectError>>,
{
    for _ in 0..VERIFICATIONS {
        match connect().await {
            Ok(mut stream) => {
                // An agent waits for the first octet, and says none itself.
                if timeout(CLOSING_TIME, stream.read(&mut [0])).await.is_err() {
                    return false;
                }
            }
            Err(error) => return matches!(error, ConnectError::Refused),
        }
    }
    false
}

/// Opens a link to the agent that listens at an address; to this member alone, if one is given.
pub(in crate::net) async fn dial(
    context: &Arc<Context>,
    address: SocketAddr,
    member: Option<Peer>,
) -> Result<(), ConnectError> {
    let stream = connect(context, address).await?;
    let handshake = async {
        let connected = context.credentials.connector().connect(stream, address, None).await;
        let (stream, identity) = connected.map_err(|error| ConnectError::Tls(error.to_string()))?;
        let (mut stream, mut reader) = (TlsStream::Client(stream), Reader::default());
        let own = own_hello(context, member.map(|member| member.id)).await?;
        write_frame(&mut stream, Frame::Hello(*own).encode()).await?;
        let hello = read_hello(context, &mut stream, &mut reader, &identity, member).await?;
        open(context, hello, true, address, stream, reader).await;
        Ok(())
    };
    timeout(HANDSHAKE_TIME, handshake).await.map_err(|_| ConnectError::Late)?
}

async fn connect(context: &Context, address: SocketAddr) -> Result<TcpStream, ConnectError> {
    if context.side.is_mute_to(address.ip()) {
        return Err(ConnectError::Late);
    }
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(ConnectError::Io)?;
    // Where several agents share a host, each speaks from its own address.
    let own = context.listen.ip();
    if !own.is_unspecified() && own.is_ipv4() == address.is_ipv4() {
        socket.bind(SocketAddr::new(own, 0)).map_err(ConnectError::Io)?;
    }
    match timeout(CONNECT_TIME, socket.connect(address)).await {
        Ok(Ok(stream)) => {
            tune(&stream);
            Ok(stream)
        }
        Ok(Err(error)) => Err(not_connected(error)),
        Err(_) => Err(ConnectError::Late),
    }
}

fn not_connected(error: io::Error) -> ConnectError {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        ConnectError::Refused
    } else {
        ConnectError::Io(error)
    }
}

/// Best effort: a stream without these options works, only worse.
fn tune(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(3))
        .with_interval(Duration::from_secs(2))
        .with_retries(3);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
    let _ = stream.set_nodelay(true);
}

async fn own_hello(context: &Context, to: Option<NodeId>) -> Result<Box<Hello>, ConnectError> {
    let (reply, answer) = oneshot::channel();
    context.tell(Event::Hello { to, reply }).await;
    answer.await.ok().flatten().ok_or(ConnectError::Full)
}

async fn write_frame(
    stream: &mut TlsStream<TcpStream>,
    octets: Vec<u8>,
) -> Result<(), ConnectError> {
    let mut frame = Written::new(Lane::Normal, octets);
    while !frame.write_piece(stream).await.map_err(refused)? {}
    stream.flush().await.map_err(refused)
}

/// In TLS 1.3 a client learns that its certificate was refused only when it reads or writes.
fn refused(error: io::Error) -> ConnectError {
    ConnectError::Tls(tls::explain(&error))
}

/// Reads what the peer says first. What it returns can be true.
async fn read_hello(
    context: &Context,
    stream: &mut TlsStream<TcpStream>,
    reader: &mut Reader,
    identity: &PeerIdentity,
    dialed: Option<Peer>,
) -> Result<Box<Hello>, ConnectError> {
    let octets = reader.next(stream).await.map_err(refused)?;
    let octets = octets.ok_or_else(|| {
        ConnectError::Protocol("the peer closed the stream before it said hello".to_owned())
    })?;
    match Frame::decode(&octets) {
        Ok(Frame::Hello(hello)) => Ok(Box::new(judge(context, hello, identity, dialed)?)),
        // It has enough links, and tells of others.
        Ok(Frame::Members(members)) => {
            context.request(Request::Introduce(members)).await;
            Err(ConnectError::Full)
        }
        Ok(_) => Err(ConnectError::Protocol("the peer did not say hello first".to_owned())),
        Err(error) => Err(ConnectError::Protocol(error.to_string())),
    }
}

/// Refuses a hello that cannot be true, by what this agent knows at the moment.
fn judge(
    context: &Context,
    hello: Hello,
    identity: &PeerIdentity,
    dialed: Option<Peer>,
) -> Result<Hello, HelloError> {
    let view = context.shared.view.load();
    let live = view.nodes().find(|node| node.id == hello.peer.id && node.is_live());
    let known_as = live.map(|node| &node.row.name);
    let evidence = Evidence { node: &identity.node, zone: &identity.zone, known_as, dialed };
    hello.judge(&evidence, context.own().id, Timestamp::from_system(SystemTime::now()))
}

async fn open(
    context: &Arc<Context>,
    hello: Box<Hello>,
    is_dialed: bool,
    remote: SocketAddr,
    stream: TlsStream<TcpStream>,
    reader: Reader,
) {
    let link = link::start(context, hello.peer, remote, stream, reader);
    context.tell(Event::Linked { hello, is_dialed, link }).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_strangers_make_room_for_new_ones() {
        let all = Arc::default();
        let mut strangers: Vec<Stranger> = (0..200).map(|_| Stranger::admit(&all)).collect();
        let dropped = strangers.iter().filter(|stranger| stranger.dropped.is_cancelled());
        assert_eq!(dropped.count(), 200 - STRANGERS);
        assert!(strangers[..200 - STRANGERS].iter().all(|s| s.dropped.is_cancelled()));
        strangers.truncate(199);
        let newest = Stranger::admit(&all);
        assert!(!strangers[200 - STRANGERS].dropped.is_cancelled());
        drop((strangers, newest));
        assert!(all.lock().unwrap().waiting.is_empty());
    }

    async fn connect(address: SocketAddr) -> Result<TcpStream, ConnectError> {
        TcpStream::connect(address).await.map_err(not_connected)
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

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let count = |text: &str| counted(text.parse().unwrap());
        assert_eq!(count("2001:db8::1"), count("2001:db8::ffff:0:0:2"));
        assert_ne!(count("2001:db8::1"), count("2001:db8:0:1::1"));
        assert_eq!(count("::ffff:127.0.0.1"), count("127.0.0.1"));
        assert_ne!(count("127.0.0.1"), count("127.0.0.2"));
    }
}
