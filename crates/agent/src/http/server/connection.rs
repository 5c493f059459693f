//! One connection: HTTP/1.1 or HTTP/2, whichever its client begins with, ended when it idles or the agent stops.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Version;
use axum::response::Response;
use bytes::Bytes;
use dunlin_shell::listen::{Ending, Serve, Shed};
use dunlin_shell::{Origin, Slot};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;

use super::preface::PeekedStream;
use crate::http::limits::Limits;

/// Octets of a request's head, and of an answer's body that a slow client makes us hold. A watch of a
/// thousand services has to name them all in its head.
const MAX_BUFFER_OCTETS: usize = 128 << 10;
/// Streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// Octets of answers that are held for a slow stream of HTTP/2.
const MAX_STREAM_BUFFER_OCTETS: usize = 64 << 10;
/// Octets that an HTTP/2 client may send ahead, on one stream and on all together.
const STREAM_WINDOW_OCTETS: u32 = 256 << 10;
const CONNECTION_WINDOW_OCTETS: u32 = 1 << 20;
/// Time between two pings that ask whether an HTTP/2 client is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long an HTTP/2 client may take to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(30);

/// How connections are served; one value for all of them.
pub(in crate::http) struct Connection {
    router: Router,
    http1: Builder<TokioExecutor>,
    http2: Builder<TokioExecutor>,
    idle_timeout: Duration,
    ending: Ending,
    refusal: &'static [u8],
}

impl Connection {
    /// Serves these calls. `refusal` is the whole answer, head and body, to a connection that is one too many.
    pub(in crate::http) fn new(
        router: Router,
        limits: &Limits,
        ending: Ending,
        refusal: &'static [u8],
    ) -> Self {
        let mut http = Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            // Runs from the end of the last request, so it ends idle connections as well.
            .header_read_timeout(limits.idle_timeout)
            .max_buf_size(MAX_BUFFER_OCTETS);
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(MAX_BUFFER_OCTETS).unwrap_or(u32::MAX))
            .max_send_buf_size(MAX_STREAM_BUFFER_OCTETS)
            .initial_stream_window_size(STREAM_WINDOW_OCTETS)
            .initial_connection_window_size(CONNECTION_WINDOW_OCTETS)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        let (http1, http2) = (http.clone().http1_only(), http.http2_only());
        Self { router, http1, http2, idle_timeout: limits.idle_timeout, ending, refusal }
    }
}

impl Serve for Connection {
    fn refusal(&self) -> &[u8] {
        self.refusal
    }

    async fn serve<S>(self: Arc<Self>, stream: S, origin: Origin, slot: &Slot) -> Option<Shed>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { router, http1, http2, idle_timeout, ending, refusal: _ } = &*self;
        let Ending { shutdown, abort } = ending;
        let begun = tokio::select! {
            begun = PeekedStream::read(stream) => begun.ok()?,
            () = slot.lost() => return Some(Shed::Crowded),
            () = shutdown.cancelled() => return None,
            () = sleep(*idle_timeout) => return Some(Shed::Idle),
        };
        let activity = Arc::new(Activity::default());
        let router = TowerToHyperService::new(router.clone());
        let seen = Arc::clone(&activity);
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(origin);
            let tracked = (request.version() == Version::HTTP_2).then(|| Open::new(&seen));
            seen.begun.fetch_add(1, Ordering::Relaxed);
            let answer = router.call(request.map(Body::new));
            async move {
                let response: Response = answer.await?;
                Ok::<_, std::convert::Infallible>(match tracked {
                    Some(open) => response.map(|body| Body::new(Tracked { body, open })),
                    None => response,
                })
            }
        });
        let http = if begun.is_http2() { http2 } else { http1 };
        let connection = http.serve_connection(TokioIo::new(begun), service);
        tokio::pin!(connection);
        let (mut is_closing, mut was_idle) = (false, false);
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    let error = ended.err()?;
                    let shed = shed_of(&*error);
                    tracing::debug!(error, ?shed, "a connection ended");
                    return shed;
                }
                () = slot.lost() => return Some(Shed::Crowded),
                () = shutdown.cancelled(), if !is_closing => {
                    is_closing = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = abort.cancelled() => return None,
                () = sleep(*idle_timeout) => match activity.verdict() {
                    Verdict::Silent => return Some(Shed::Idle),
                    // The connection was asked to end and is still open, so its client does not take its last answers.
                    Verdict::Idle if was_idle => return Some(Shed::Stalled),
                    Verdict::Idle => {
                        was_idle = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    Verdict::Stuck => return Some(Shed::Stalled),
                    Verdict::Busy => was_idle = false,
                },
            }
        }
    }
}

/// What an error of a connection means; `None` when its client ended it.
fn shed_of(error: &(dyn Error + 'static)) -> Option<Shed> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout) {
            return Some(Shed::Idle);
        }
        if let Some(shed) = Shed::of(error) {
            return Some(shed);
        }
        cause = error.source();
    }
    None
}

/// The state of a connection's requests, to tell idle and stalled connections from busy ones.
#[derive(Debug, Default)]
struct Activity {
    begun: AtomicU64,
    /// Requests begun when the connection was last looked at.
    seen: AtomicU64,
    is_http2: AtomicBool,
    /// HTTP/2 requests whose answer has not been taken to its end. HTTP/1.1 needs no count: hyper's
    /// own deadline for the next head ends its idle connections.
    open: AtomicUsize,
    /// Of these, how many have given a piece that HTTP/2's flow control does not let through yet.
    parked: AtomicUsize,
    /// Pieces that went through after they were parked.
    passed: AtomicU64,
    /// The pieces that had passed when the connection was last looked at.
    seen_passed: AtomicU64,
}

enum Verdict {
    /// No request has come at all.
    Silent,
    /// Nothing is open, and nothing has come since the last look.
    Idle,
    /// Its client has taken nothing of any answer since the last look, and some wait for that.
    Stuck,
    Busy,
}

impl Activity {
    fn verdict(&self) -> Verdict {
        let begun = self.begun.load(Ordering::Relaxed);
        let seen = self.seen.swap(begun, Ordering::Relaxed);
        let is_idle = self.is_http2.load(Ordering::Relaxed)
            && self.open.load(Ordering::Relaxed) == 0
            && begun == seen;
        let passed = self.passed.load(Ordering::Relaxed);
        let is_stuck = self.parked.load(Ordering::Relaxed) > 0
            && self.seen_passed.swap(passed, Ordering::Relaxed) == passed
            && begun == seen;
        match (begun, is_idle, is_stuck) {
            (0, ..) => Verdict::Silent,
            (_, true, _) => Verdict::Idle,
            (_, _, true) => Verdict::Stuck,
            (_, false, false) => Verdict::Busy,
        }
    }
}

/// A request of HTTP/2 that is being answered.
struct Open {
    activity: Arc<Activity>,
    is_parked: bool,
}

impl Open {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.is_http2.store(true, Ordering::Relaxed);
        activity.open.fetch_add(1, Ordering::Relaxed);
        Self { activity: Arc::clone(activity), is_parked: false }
    }

    /// A piece was given away. The next is asked for once this one may be sent.
    fn park(&mut self) {
        self.is_parked = true;
        self.activity.parked.fetch_add(1, Ordering::Relaxed);
    }

    fn pass(&mut self) {
        if std::mem::take(&mut self.is_parked) {
            self.activity.parked.fetch_sub(1, Ordering::Relaxed);
            self.activity.passed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.pass();
        self.activity.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that keeps its request open until it was taken.
struct Tracked {
    body: Body,
    open: Open,
}

impl hyper::body::Body for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.open.pass();
        let piece = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(_))) = &piece {
            self.open.park();
        }
        piece
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
