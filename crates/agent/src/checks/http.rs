//! HTTP checks: one request over HTTP/1.1, no redirects, no proxy.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use dunlin_core::health::CheckOutcome;
use dunlin_core::model::{CheckStatus, HttpCheck};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::connect::Tls;
use super::{Failure, outcome};

/// Octets of a body that are looked at.
const MAX_BODY_OCTETS: usize = 64 * 1024;

/// Sends the request and judges the answer.
pub(super) async fn run(
    check: &HttpCheck,
    own: SocketAddr,
    tls: &Tls,
) -> Result<CheckOutcome, Failure> {
    let address = check.target.unwrap_or(own);
    let request = request(check, address)?;
    let stream = tls.connect(address, check.tls.as_ref(), b"http/1.1").await?;
    let (mut sender, connection) =
        http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(|e| explain(&e))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|e| explain(&e))?;
        judge(check, response).await
    };
    // The connection is driven here rather than in a task of its own, so that giving up closes it.
    tokio::pin!(exchange);
    tokio::select! {
        result = &mut exchange => result,
        // However the connection ended, the exchange has what came before, or knows why nothing did.
        _ = connection => exchange.await,
    }
}

fn request(check: &HttpCheck, address: SocketAddr) -> Result<Request<Empty<Bytes>>, Failure> {
    let mut request = Request::builder().method(check.method.as_str()).uri(&check.path);
    let is_given = |name: &str| check.headers.iter().any(|(k, _)| k.eq_ignore_ascii_case(name));
    if !is_given("host") {
        let name = check.tls.as_ref().and_then(|tls| tls.server_name.clone());
        request = request.header(HOST, name.unwrap_or_else(|| address.to_string()));
    }
    if !is_given("user-agent") {
        request = request.header(USER_AGENT, concat!("dunlin/", env!("CARGO_PKG_VERSION")));
    }
    if !is_given("connection") {
        // One request is all there is; the server need not keep the connection for more.
        request = request.header(CONNECTION, "close");
    }
    for (name, value) in &check.headers {
        request = request.header(name, value);
    }
    request.body(Empty::new()).map_err(|e| format!("the request cannot be made: {e}"))
}

async fn judge(check: &HttpCheck, response: Response<Incoming>) -> Result<CheckOutcome, Failure> {
    let status = response.status();
    if !check.expect_status.contains(status.as_u16()) {
        return Err(format!("expected status {}, got {status}", check.expect_status));
    }
    if let Some(expected) = &check.expect_body {
        let body = read_body(response.into_body()).await?;
        if !contains(&body, expected.as_bytes()) {
            return Err(format!("{status}, yet the body does not hold {expected:?}"));
        }
    }
    Ok(outcome(CheckStatus::Passing, status.to_string()))
}

async fn read_body(mut body: Incoming) -> Result<Vec<u8>, Failure> {
    let mut read = Vec::new();
    while read.len() < MAX_BODY_OCTETS
        && let Some(frame) = body.frame().await
    {
        if let Some(data) = frame.map_err(|e| explain(&e))?.data_ref() {
            read.extend_from_slice(&data[..data.len().min(MAX_BODY_OCTETS - read.len())]);
        }
    }
    Ok(read)
}

fn contains(body: &[u8], expected: &[u8]) -> bool {
    expected.is_empty() || body.windows(expected.len()).any(|window| window == expected)
}

fn explain(error: &hyper::Error) -> Failure {
    let cause = error.source().and_then(|e| e.downcast_ref::<io::Error>());
    let is_cut = cause.is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof);
    if is_cut || error.is_incomplete_message() || error.is_body_write_aborted() {
        return "the connection was closed before the answer was complete".to_owned();
    }
    format!("not a proper HTTP answer: {error}")
}
