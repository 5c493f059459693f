//! Questions outside the domain, passed on to upstreams.
//!
//! Each question goes out with a random id, from a connected socket of its own, so that a forged reply must guess id
//! and port (RFC 5452 §9). A reply counts only if its id and question match. Upstreams are tried in their configured
//! order. Beyond the limit of questions under way, the client gets SERVFAIL at once.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use dunlin_core::dns::{
    Answer, DnsSettings, HEADER_OCTETS, Query, Rcode, Shuffler, TCP_MESSAGE_OCTETS, Transport,
};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::random_seed;
use super::stats::{DnsStats, add};

/// Octets of a reply that is taken over UDP. When a reply is longer, clients that announced more are sent to TCP.
const MAX_UDP_REPLY_OCTETS: usize = 4096;
/// The truncation bit in a header's third octet.
const FLAG_TC: u8 = 0x02;

/// A question to pass on.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) packet: Vec<u8>,
    pub(super) reply_to: ReplyTo,
}

/// Where the reply goes.
#[derive(Debug)]
pub(super) enum ReplyTo {
    /// Through the socket on which the question came in. If that is bound to all addresses, the kernel chooses the
    /// address from which the reply leaves.
    Udp { socket: Arc<UdpSocket>, peer: SocketAddr },
    /// To the task of the stream on which the question came in.
    Tcp(oneshot::Sender<Vec<u8>>),
}

/// Why an upstream gave no reply.
#[derive(Debug, Error)]
enum ForwardError {
    #[error("no reply in time")]
    Timeout,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Passes questions on until it is cancelled.
pub(super) struct Forwarder {
    pub(super) settings: Arc<ArcSwap<DnsSettings>>,
    pub(super) stats: Arc<DnsStats>,
    pub(super) timeout: Duration,
    pub(super) in_flight: Arc<Semaphore>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Forwarder {
    pub(super) async fn run(self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(Some(job)) = self.stop.run_until_cancelled(jobs.recv()).await {
            let permit = Arc::clone(&self.in_flight).try_acquire_owned().ok();
            let settings = self.settings.load_full();
            let stats = Arc::clone(&self.stats);
            let (timeout, stop) = (self.timeout, self.stop.clone());
            self.tasks.spawn(async move {
                let asked = async {
                    match &permit {
                        Some(_) => ask_all(&job, &settings, timeout).await,
                        None => None,
                    }
                };
                let Some(reply) = stop.run_until_cancelled(asked).await else {
                    return;
                };
                let reply = reply.unwrap_or_else(|| {
                    add(&stats.shared().forward_failures, 1);
                    failure(&job.packet, &settings)
                });
                deliver(job.reply_to, reply);
            });
        }
    }
}

fn deliver(reply_to: ReplyTo, reply: Vec<u8>) {
    match reply_to {
        // A datagram that cannot be sent is a lost one; the client asks again.
        ReplyTo::Udp { socket, peer } => drop(socket.send_to(&reply, peer)),
        ReplyTo::Tcp(sender) => drop(sender.send(reply)),
    }
}

/// SERVFAIL for a packet that was a good question before.
pub(super) fn failure(packet: &[u8], settings: &DnsSettings) -> Vec<u8> {
    let mut out = Vec::new();
    if let Ok(query) = Query::parse(packet) {
        let answer = Answer::bare(settings, Rcode::ServFail);
        answer.write(&query, TCP_MESSAGE_OCTETS, &mut Shuffler::new(0), &mut out);
    }
    out
}

/// The first proper reply of an upstream, with the client's id.
async fn ask_all(job: &Job, settings: &DnsSettings, timeout: Duration) -> Option<Vec<u8>> {
    let (transport, limit) = match (&job.reply_to, Query::parse(&job.packet)) {
        (_, Err(_)) => return None,
        (ReplyTo::Tcp(_), Ok(_)) => (Transport::Tcp, TCP_MESSAGE_OCTETS),
        // What the client announced, not what we would send: the upstream sees the same number.
        (ReplyTo::Udp { .. }, Ok(query)) => {
            let announced = query.edns().map_or(512, |edns| edns.payload.max(512));
            (Transport::Udp, usize::from(announced).min(MAX_UDP_REPLY_OCTETS))
        }
    };
    let [high, low, ..] = random_seed().to_be_bytes();
    let mut packet = job.packet.clone();
    packet.get_mut(..2)?.copy_from_slice(&[high, low]);
    for upstream in &settings.upstreams {
        let asked = async {
            match transport {
                Transport::Udp => ask_udp(*upstream, &packet).await,
                Transport::Tcp => ask_tcp(*upstream, &packet).await,
            }
        };
        let reply = tokio::time::timeout(timeout, asked).await;
        match reply.unwrap_or(Err(ForwardError::Timeout)) {
            Ok(mut reply) => {
                if reply.len() > limit {
                    cut(&mut reply, &packet);
                }
                reply[..2].copy_from_slice(&job.packet[..2]);
                return Some(reply);
            }
            Err(error) => tracing::debug!(%upstream, %error, "upstream gave no reply"),
        }
    }
    None
}

/// Cuts a reply down to its header and question and sets TC, so that the client asks again over TCP.
fn cut(reply: &mut Vec<u8>, packet: &[u8]) {
    let question = Query::parse(packet).map_or(0, |query| query.question().len());
    reply.truncate(HEADER_OCTETS + question);
    reply[2] |= FLAG_TC;
    reply[6..HEADER_OCTETS].fill(0);
}

async fn ask_udp(upstream: SocketAddr, packet: &[u8]) -> Result<Vec<u8>, ForwardError> {
    let any: SocketAddr = match upstream {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = tokio::net::UdpSocket::bind(any).await?;
    socket.connect(upstream).await?;
    socket.send(packet).await?;
    // One octet more than is passed on, so that a longer reply is noticed.
    let mut reply = vec![0; MAX_UDP_REPLY_OCTETS + 1];
    loop {
        let len = socket.recv(&mut reply).await?;
        // Anything else may be forged or late: wait on for the true one.
        if is_reply(&reply[..len], packet) {
            reply.truncate(len);
            return Ok(reply);
        }
    }
}

async fn ask_tcp(upstream: SocketAddr, packet: &[u8]) -> Result<Vec<u8>, ForwardError> {
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(packet.len()).map_err(io::Error::other)?;
    let message = [&length.to_be_bytes(), packet].concat();
    stream.write_all(&message).await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0; usize::from(length)];
    stream.read_exact(&mut reply).await?;
    if is_reply(&reply, packet) {
        Ok(reply)
    } else {
        Err(io::Error::from(io::ErrorKind::InvalidData).into())
    }
}

/// Whether a packet is a response with the id and the question that were sent. Without a question it
/// counts only as an error reply of the header alone.
fn is_reply(reply: &[u8], packet: &[u8]) -> bool {
    let Ok(query) = Query::parse(packet) else {
        return false;
    };
    let question = query.question();
    let Some((header, rest)) = reply.split_at_checked(HEADER_OCTETS) else {
        return false;
    };
    if header[..2] != packet[..2] || header[2] & 0x80 == 0 {
        return false;
    }
    match [header[4], header[5]] {
        [0, 1] => {
            rest.get(..question.len()).is_some_and(|echoed| echoed.eq_ignore_ascii_case(question))
        }
        [0, 0] => header[3] & 15 != 0 && rest.is_empty(),
        _ => false,
    }
}
