//! Tells by the first octets of a connection which version of HTTP its client speaks (RFC 9113 §3.4).
//!
//! The octets are given back together with those that follow them: hyper keeps a buffer of twice the size for a
//! connection whose first read was short, and ten thousand watches have ten thousand buffers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// The octets with which every HTTP/2 client begins.
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose first octets were looked at, and will be read once more.
#[derive(Debug)]
pub(super) struct PeekedStream<S> {
    stream: S,
    first: [u8; PREFACE.len()],
    len: usize,
    /// How many of the first octets were given back.
    given: usize,
}

impl<S: AsyncRead + Unpin> PeekedStream<S> {
    /// Reads until it is clear how the client begins, and no further.
    ///
    /// # Errors
    /// Those of the stream.
    pub(super) async fn read(mut stream: S) -> io::Result<Self> {
        let (mut first, mut len) = ([0; PREFACE.len()], 0);
        while len < PREFACE.len() && first[..len] == PREFACE[..len] {
            match stream.read(&mut first[len..]).await? {
                0 => break,
                more => len += more,
            }
        }
        Ok(Self { stream, first, len, given: 0 })
    }

    pub(super) fn is_http2(&self) -> bool {
        self.first[..self.len] == PREFACE
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PeekedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, first, len, given } = &mut *self;
        if given == len {
            return Pin::new(stream).poll_read(context, buffer);
        }
        let again = &first[*given..*len];
        let again = &again[..again.len().min(buffer.remaining())];
        buffer.put_slice(again);
        *given += again.len();
        if buffer.remaining() > 0 {
            // Whatever is wrong with the stream is found again by the next read.
            let _ = Pin::new(stream).poll_read(context, buffer);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PeekedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    /// Whether a client that sends these pieces one after the other is taken for HTTP/2, and what is read from it.
    async fn told(pieces: &[&[u8]]) -> (bool, Vec<u8>) {
        let (mut client, server) = tokio::io::duplex(64);
        let send = async {
            for piece in pieces {
                client.write_all(piece).await.expect("there is somebody who reads");
                tokio::task::yield_now().await;
            }
            drop(client);
        };
        let take = async {
            let mut begun = PeekedStream::read(server).await.expect("a duplex has no errors");
            let mut all = Vec::new();
            begun.read_to_end(&mut all).await.expect("nor here");
            (begun.is_http2(), all)
        };
        tokio::join!(send, take).1
    }

    #[tokio::test]
    async fn the_version_is_told_from_the_first_octets_and_none_of_them_is_lost() {
        let http1 = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        assert_eq!(told(&[http1]).await, (false, http1.to_vec()));
        let parts: Vec<&[u8]> = http1.chunks(1).collect();
        assert_eq!(told(&parts).await, (false, http1.to_vec()));
        let http2 = [&PREFACE[..], &[0; 90]].concat();
        let parts: Vec<&[u8]> = http2.chunks(7).collect();
        assert_eq!(told(&parts).await, (true, http2.clone()));
    }

    #[tokio::test]
    async fn a_client_that_stops_within_the_preface_or_leaves_it_does_not_speak_http2() {
        for octets in
            [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", b"PRI * HTTP/2.0\r\n\r\nSM\r\nX"]
        {
            assert_eq!(told(&[octets]).await, (false, octets.to_vec()));
        }
    }

    #[tokio::test]
    async fn the_first_octets_come_together_with_those_that_follow() {
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(&[b'x'; 300]).await.expect("there is room");
        let mut begun = PeekedStream::read(server).await.expect("a duplex has no errors");
        let mut buffer = [0; 512];
        assert_eq!(begun.read(&mut buffer).await.expect("nor here"), 300);
    }
}
