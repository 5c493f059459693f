//! A stream whose other end must take what it is sent.
//!
//! A client that stops reading would hold its connection, and the octets written for it, for as long as it likes. With
//! this wrapper, a client that takes nothing at all for some time loses the connection.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A stream that fails with [`Stalled`] when a write makes no progress for some time.
#[derive(Debug)]
pub struct WriteTimeout<S> {
    stream: S,
    limit: Duration,
    /// Runs while a write waits; streams that do not wait have no timer.
    waiting: Option<Pin<Box<Sleep>>>,
}

/// The error of a write that the other end did not take in time, within an [`io::Error`] of the kind
/// [`TimedOut`](io::ErrorKind::TimedOut).
#[derive(Debug, Clone, Copy)]
pub struct Stalled;

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client does not take its answers")
    }
}

impl std::error::Error for Stalled {}

impl<S> WriteTimeout<S> {
    /// Wraps a stream. `limit` is the longest that a write may wait without any progress.
    pub fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, waiting: None }
    }

    fn judge<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, Stalled)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, octets);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        // Sockets have nothing to flush, so a successful flush must not reset the timer that a write started.
        if self.waiting.is_some() && flushed.is_ready() {
            return flushed;
        }
        self.judge(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(context);
        self.judge(context, ended)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_for_the_whole_time_is_given_up_and_a_slow_one_is_not() {
        let (near, mut far) = duplex(16);
        let limit = Duration::from_secs(30);
        let mut stream = WriteTimeout::new(near, limit);
        let writing = tokio::spawn(async move {
            let result = stream.write_all(&[0; 64]).await;
            (result, stream)
        });
        let mut taken = [0; 16];
        for _ in 0..3 {
            // pause: the clock is the test's own.
            sleep(limit - Duration::from_secs(1)).await;
            far.read_exact(&mut taken).await.unwrap();
        }
        let (result, mut stream) = writing.await.unwrap();
        result.expect("it was slow, and took everything in the end");

        let before = tokio::time::Instant::now();
        let error = stream.write_all(&[0; 1]).await.unwrap_err();
        assert!(error.get_ref().is_some_and(|e| e.is::<Stalled>()), "{error}");
        assert_eq!(before.elapsed(), limit);
    }
}
