//! gRPC checks: `grpc.health.v1.Health/Check` over HTTP/2 (gRPC health checking protocol, version 1).
//!
//! Its two messages are small enough to be written and read by hand.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use dunlin_core::health::CheckOutcome;
use dunlin_core::model::{CheckStatus, TlsCheck};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::connect::Tls;
use super::{Failure, outcome};

/// Octets of an answer at most; that of a health service has a few.
const MAX_ANSWER_OCTETS: usize = 4096;
/// `HealthCheckResponse.ServingStatus`.
const SERVING: u64 = 1;

/// Asks the health service and judges its answer.
pub(super) async fn run(
    service: &str,
    address: SocketAddr,
    tls: Option<&TlsCheck>,
    connector: &Tls,
) -> Result<CheckOutcome, Failure> {
    let stream = connector.connect(address, tls, b"h2").await?;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|e| format!("no HTTP/2: {e}"))?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let name = tls.and_then(|t| t.server_name.clone()).unwrap_or_else(|| address.to_string());
    let request = Request::post(format!("{scheme}://{name}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(question(service)))
        .map_err(|e| format!("the request cannot be made: {e}"))?;
    let exchange = async {
        let failed = |e: hyper::Error| format!("not a proper gRPC answer: {e}");
        let response = sender.send_request(request).await.map_err(failed)?;
        read(response).await
    };
    tokio::pin!(exchange);
    tokio::select! {
        result = &mut exchange => result,
        // However the connection ended, the exchange has what came before, or knows why nothing did: a
        // server may well answer and close in one go.
        _ = connection => exchange.await,
    }
}

/// A length-prefixed `HealthCheckRequest { service = 1 }`.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        put_varint(&mut message, service.len() as u64);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    // A check's texts are limited to far less than 4 GiB.
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(&message);
    framed.freeze()
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

async fn read(response: Response<Incoming>) -> Result<CheckOutcome, Failure> {
    if !response.status().is_success() {
        return Err(format!("HTTP status {} instead of a gRPC answer", response.status()));
    }
    // An answer without a message says its status in the headers ("trailers only").
    let mut is_judged = grpc_status(response.headers())?;
    let mut body = response.into_body();
    let mut message = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| format!("not a proper gRPC answer: {e}"))?;
        if let Some(data) = frame.data_ref() {
            if message.len() + data.len() > MAX_ANSWER_OCTETS {
                return Err("the answer is too long to be one of a health service".to_owned());
            }
            message.extend_from_slice(data);
        } else if let Some(trailers) = frame.trailers_ref() {
            is_judged |= grpc_status(trailers)?;
        }
    }
    if !is_judged {
        return Err("the answer ended without a grpc-status".to_owned());
    }
    match serving_status(&message) {
        Some(SERVING) => Ok(outcome(CheckStatus::Passing, "SERVING")),
        Some(status) => Err(match status {
            0 => "UNKNOWN".to_owned(),
            2 => "NOT_SERVING".to_owned(),
            3 => "SERVICE_UNKNOWN".to_owned(),
            other => format!("serving status {other}"),
        }),
        None => Err("the answer is not a HealthCheckResponse".to_owned()),
    }
}

/// Whether these headers hold a gRPC status. A status that tells of a failure is an error.
fn grpc_status(headers: &HeaderMap) -> Result<bool, Failure> {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    match text("grpc-status") {
        None => Ok(false),
        Some("0") => Ok(true),
        Some(status) => Err(match text("grpc-message") {
            Some(message) => format!("grpc-status {status}: {message}"),
            None => format!("grpc-status {status}"),
        }),
    }
}

/// Field 1 of a length-prefixed `HealthCheckResponse`; absent means 0.
fn serving_status(framed: &[u8]) -> Option<u64> {
    let (prefix, message) = framed.split_at_checked(5)?;
    // A compressed message cannot be: the question offered no compression.
    if prefix[0] != 0 {
        return None;
    }
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    let mut rest = message.get(..usize::try_from(length).ok()?)?;
    let mut status = 0;
    while !rest.is_empty() {
        let key = take_varint(&mut rest)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = take_varint(&mut rest)?,
            (_, 0) => _ = take_varint(&mut rest)?,
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(take_varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod unit {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_question_is_framed_protobuf() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("web")[..], [0, 0, 0, 0, 5, 0x0a, 3, b'w', b'e', b'b']);
    }

    #[test]
    fn an_answer_is_read_past_unknown_fields() {
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(serving_status(&[0, 0, 0, 0, 5, 0x12, 1, 9, 8, 2]), Some(2));
        assert_eq!(serving_status(&[0, 0, 0, 0, 9, 8, 1]), None);
        assert_eq!(serving_status(&[1, 0, 0, 0, 2, 8, 1]), None);
    }

    proptest! {
        #[test]
        fn reading_any_octets_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = serving_status(&bytes);
        }
    }
}
