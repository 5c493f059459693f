//! Reads bodies of requests: within the limit that the call declares, within a time, and not too many at once.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};

use super::{BodyLimit, Reason, Refusal};
use crate::http::limits::Limits;

/// The greatest limit of a call whose bodies count as small. Larger ones have slots of their own, so that a few of
/// them cannot hold up all others.
const MAX_SMALL_OCTETS: usize = 1 << 20;
/// Octets of a too large body that are still read, so that its sender gets to see the answer.
const MAX_DISCARD_OCTETS: usize = 64 << 20;

/// The bodies that are being read.
#[derive(Debug)]
pub(in crate::http) struct Bodies {
    small: Semaphore,
    large: Semaphore,
    queue_timeout: Duration,
    body_timeout: Duration,
}

impl Bodies {
    pub(in crate::http) fn new(limits: &Limits) -> Self {
        Self {
            small: Semaphore::new(limits.bodies),
            large: Semaphore::new(limits.large_bodies),
            queue_timeout: limits.queue_timeout,
            body_timeout: limits.body_timeout,
        }
    }

    /// Reads a whole body. The slot is to be kept until what was read is dropped: for large bodies, until the request
    /// is answered.
    pub(in crate::http) async fn read(
        &self,
        request: Request,
    ) -> Result<(Bytes, SemaphorePermit<'_>), Refusal> {
        let (parts, body) = request.into_parts();
        let BodyLimit(limit) = parts.extensions.get().copied().unwrap_or(BodyLimit::NONE);
        let slots = if limit > MAX_SMALL_OCTETS { &self.large } else { &self.small };
        let Ok(Ok(slot)) = timeout(self.queue_timeout, slots.acquire()).await else {
            let error = "too many request bodies are being read";
            let hint = "try again in a moment; /metrics shows what is at its limit";
            return Err(Refusal::new(Reason::Busy, error, hint));
        };
        let deadline = Instant::now() + self.body_timeout;
        match timeout_at(deadline, collect(&parts.headers, body, limit)).await {
            Ok(read) => read.map(|bytes| (bytes, slot)),
            Err(_) => {
                let error = format!("body: not complete after {:?}", self.body_timeout);
                let hint = "nothing was changed; send the whole body at once";
                Err(Refusal::new(Reason::BodyTimeout, error, hint))
            }
        }
    }
}

async fn collect(headers: &HeaderMap, mut body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok());
    let declared: usize = declared.and_then(|v| v.parse().ok()).unwrap_or(0);
    if declared > limit {
        // A client that asks first (`Expect: 100-continue`) need not send anything.
        if !headers.contains_key(header::EXPECT) {
            discard(&mut body).await;
        }
        return Err(too_large(limit));
    }
    let mut bytes = BytesMut::with_capacity(declared);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let error = format!("body: it could not be read: {error}");
            let hint = "the body ends before its declared length, or its framing is wrong";
            Refusal::new(Reason::BodyUnreadable, error, hint)
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            discard(&mut body).await;
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// Reads on without keeping anything. A sender that is still writing when the connection closes would
/// get a reset instead of the answer.
async fn discard(body: &mut Body) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MAX_DISCARD_OCTETS {
            return;
        }
    }
}

fn too_large(limit: usize) -> Refusal {
    let mebibytes = limit >> 20;
    let size = if mebibytes > 0 { format!("{mebibytes} MiB") } else { format!("{limit} octets") };
    Refusal::new(Reason::BodyTooLarge, format!("body: larger than {size}"), "nothing was changed")
}
