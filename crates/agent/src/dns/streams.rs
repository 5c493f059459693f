//! DNS over TCP (RFC 7766): pipelined questions, answered in order.
//!
//! A stream costs one task and two buffers. It ends when its client is silent for the idle time, stops in the middle of
//! a message, does not take its replies, or sends what is not a question.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::dns::{DnsOutcome, HEADER_OCTETS, Shuffler, Transport, respond};
use dunlin_shell::FairLimit;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::forward::{Job, ReplyTo, failure};
use super::random_seed;
use super::stats::add;
use super::worker::DnsShared;

/// Octets that are read ahead: a few pipelined questions.
const READ_BUFFER_OCTETS: usize = 1024;
/// Octets of replies that are collected while further questions are already here.
const MAX_WRITE_BUFFER_OCTETS: usize = 16 * 1024;
/// Time until a listener accepts again after a failure (e.g. no descriptors left), so that the loop does not spin.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// What listeners and streams share.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) shared: Arc<DnsShared>,
    pub(super) connections: Arc<FairLimit>,
    pub(super) idle: Duration,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Streams {
    /// Accepts until cancelled. At the limit, the client with the most streams loses the newest to a client with
    /// fewer; otherwise new streams are closed at once.
    pub(super) async fn listen(self, listener: TcpListener) {
        while let Some(accepted) = self.stop.run_until_cancelled(listener.accept()).await {
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "DNS listener fails to accept");
                    tokio::time::sleep(ACCEPT_RETRY_INTERVAL).await;
                    continue;
                }
            };
            let counters = self.shared.stats.shared();
            let Some(slot) = self.connections.take(peer.ip().into()) else {
                add(&counters.tcp_refused, 1);
                continue;
            };
            add(&counters.tcp_connections, 1);
            let this = self.clone();
            self.tasks.spawn(async move {
                // The loss is counted before the stream is closed, so that the count shows when the client sees the
                // end.
                let displaced = async {
                    slot.lost().await;
                    add(&this.shared.stats.shared().tcp_displaced, 1);
                };
                let served = async {
                    tokio::select! {
                        served = this.serve(stream) => served,
                        () = displaced => Ok(()),
                    }
                };
                if let Some(Err(error)) = this.stop.run_until_cancelled(served).await {
                    if error.kind() == io::ErrorKind::TimedOut {
                        add(&this.shared.stats.shared().tcp_silent, 1);
                    }
                    tracing::debug!(%peer, %error, "DNS stream ended");
                }
            });
        }
    }

    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (input, mut output) = stream.split();
        let mut input = BufReader::with_capacity(READ_BUFFER_OCTETS, input);
        let mut shuffler = Shuffler::new(random_seed());
        let (mut packet, mut reply, mut replies) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            // The next message must be whole within the idle time.
            let read = timeout(self.idle, read_message(&mut input, &mut packet));
            if !read.await.map_err(|_| io::ErrorKind::TimedOut)?? {
                return Ok(());
            }
            let is_answered = match self.respond(&packet, &mut shuffler, &mut reply) {
                DnsOutcome::Reply(_) => true,
                DnsOutcome::Silent => false,
                DnsOutcome::Forward => {
                    // Replies that are ready do not wait for an upstream.
                    self.send(&mut output, &mut replies).await?;
                    reply = self.forward(&packet).await;
                    true
                }
            };
            if is_answered {
                let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
                replies.extend_from_slice(&length.to_be_bytes());
                replies.extend_from_slice(&reply);
            }
            let more = holds_message(input.buffer()) && replies.len() < MAX_WRITE_BUFFER_OCTETS;
            if !is_answered || !more {
                self.send(&mut output, &mut replies).await?;
            }
            if !is_answered {
                return Ok(());
            }
        }
    }

    /// Sends the collected replies. A client that does not take them within the idle time loses its stream.
    async fn send(
        &self,
        output: &mut (impl AsyncWrite + Unpin),
        replies: &mut Vec<u8>,
    ) -> io::Result<()> {
        let write = timeout(self.idle, output.write_all(replies));
        write.await.map_err(|_| io::ErrorKind::TimedOut)??;
        replies.clear();
        Ok(())
    }

    /// Writes the reply, if it can be made here.
    fn respond(&self, packet: &[u8], shuffler: &mut Shuffler, reply: &mut Vec<u8>) -> DnsOutcome {
        let shared = &self.shared;
        let counters = shared.stats.shared();
        counters.received(Transport::Tcp);
        let (settings, view) = (shared.settings.load(), shared.view.load());
        let outcome = respond(packet, &view, &settings, Transport::Tcp, shuffler, reply);
        match outcome {
            DnsOutcome::Reply(written) => counters.replied(written),
            DnsOutcome::Silent => add(&counters.dropped, 1),
            DnsOutcome::Forward => add(&counters.forwarded, 1),
        }
        outcome
    }

    /// An upstream's reply, or SERVFAIL.
    async fn forward(&self, packet: &[u8]) -> Vec<u8> {
        let shared = &self.shared;
        let (sender, receiver) = oneshot::channel();
        let job = Job { packet: packet.to_vec(), reply_to: ReplyTo::Tcp(sender) };
        // A job that is not taken drops its sender, which ends the wait at once.
        drop(shared.forward.try_send(job));
        match receiver.await {
            Ok(reply) => reply,
            Err(_) => {
                add(&shared.stats.shared().forward_failures, 1);
                failure(packet, &shared.settings.load())
            }
        }
    }
}

/// Whether a whole message is already here, so that its reply can leave with those before it.
fn holds_message(buffer: &[u8]) -> bool {
    buffer
        .split_first_chunk()
        .is_some_and(|(length, rest)| rest.len() >= usize::from(u16::from_be_bytes(*length)))
}

/// Reads one message with its length in front (RFC 1035 §4.2.2). `false` at the stream's end, or when
/// the message is too short to be one.
async fn read_message(
    input: &mut (impl AsyncRead + Unpin),
    packet: &mut Vec<u8>,
) -> io::Result<bool> {
    let length = match input.read_u16().await {
        Ok(length) => usize::from(length),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        Err(error) => return Err(error),
    };
    if length < HEADER_OCTETS {
        return Ok(false);
    }
    // The memory of a long message is not kept for the whole life of the stream.
    packet.clear();
    packet.shrink_to(READ_BUFFER_OCTETS);
    // The buffer grows with what arrives, not with what was announced.
    let read = input.take(length as u64).read_to_end(packet).await?;
    if read < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(true)
}

/// Makes a bound listener one of the runtime's.
pub(super) fn to_async(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}
