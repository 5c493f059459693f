//! Runs against real servers and programs on this host.

use std::path::Path;
use std::time::{Duration, Instant};

use dunlin_core::model::{CheckId, HttpCheck, StatusRange, TlsCheck};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

fn request(kind: CheckKind, address: SocketAddr) -> Request {
    let spec = CheckSpec::with_defaults(CheckId::parse("c").unwrap(), kind);
    Request {
        instance: InstanceId::parse("web-1").unwrap(),
        service: ServiceName::parse("web").unwrap(),
        address,
        spec: Arc::new(CheckSpec { timeout: Duration::from_secs(20), ..spec }),
    }
}

async fn run(kind: CheckKind, address: SocketAddr) -> Outcome {
    Runner::new(Limits::default()).run(request(kind, address)).await
}

fn nowhere() -> SocketAddr {
    // Port 1 of loopback: nothing listens there.
    SocketAddr::from(([127, 0, 0, 1], 1))
}

/// Accepts one connection, reads a request's head, writes the answer and closes.
async fn server(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        stream.write_all(answer).await.unwrap();
    });
    address
}

async fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
}

fn http() -> HttpCheck {
    HttpCheck {
        target: None,
        method: "GET".into(),
        path: "/healthz".into(),
        headers: vec![],
        expect_status: StatusRange::default(),
        expect_body: None,
        tls: None,
    }
}

fn command(script: &str) -> CheckKind {
    CheckKind::Command { argv: ["sh", "-c", script].map(String::from).to_vec() }
}

#[tokio::test]
async fn tcp_passes_where_somebody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let passed = run(CheckKind::Tcp { target: None }, address).await;
    assert_eq!(passed.status, CheckStatus::Passing);
    let failed = run(CheckKind::Tcp { target: Some(nowhere()) }, address).await;
    assert_eq!(failed.status, CheckStatus::Critical);
    assert_eq!(failed.output, "connection refused (127.0.0.1:1)");
}

#[tokio::test]
async fn http_judges_status_and_body() {
    let ok: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nhealthy";
    let broken: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    let moved: &[u8] = b"HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n";
    let cases = [
        (ok, None, true, "200 OK"),
        (ok, Some("health"), true, "200 OK"),
        (ok, Some("ready"), false, "does not hold \"ready\""),
        (broken, None, false, "503"),
        (moved, None, false, "302"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 700\r\n\r\nhe", Some("x"), false, "closed before"),
        (b"SSH-2.0-nonsense\r\n", None, false, "not a proper HTTP answer"),
        (b"", None, false, "closed before"),
    ];
    for (answer, expect_body, passes, output) in cases {
        let address = server(answer).await;
        let expect_body = expect_body.map(str::to_owned);
        let outcome = run(CheckKind::Http(HttpCheck { expect_body, ..http() }), address).await;
        assert_eq!(outcome.status == CheckStatus::Passing, passes, "{outcome:?}");
        assert!(outcome.output.contains(output), "{outcome:?}");
    }
}

#[tokio::test]
async fn an_endless_body_is_read_only_so_far() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let endless = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let mut written = 0_u64;
        while stream.write_all(&[b'a'; 65536]).await.is_ok() {
            written += 65536;
        }
        written
    });
    let check = HttpCheck { expect_body: Some("needle".into()), ..http() };
    let outcome = run(CheckKind::Http(check), address).await;
    assert!(outcome.output.contains("does not hold"), "{outcome:?}");
    assert!(endless.await.unwrap() < 64 << 20);
}

#[tokio::test]
async fn what_takes_too_long_is_critical() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut request = request(CheckKind::Http(http()), address);
    let spec = (*request.spec).clone();
    request.spec = Arc::new(CheckSpec { timeout: Duration::from_millis(50), ..spec });
    let outcome = Runner::new(Limits::default()).run(request).await;
    assert_eq!(outcome.output, "timed out after 50ms");
}

#[tokio::test]
async fn tls_verifies_unless_told_not_to() {
    let key = rcgen::generate_simple_self_signed(vec!["web.example".to_owned()]).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![key.cert.der().clone()],
        rustls::pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into()),
    )
    .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that does not trust the certificate breaks the handshake off.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(ok).await.unwrap();
            stream.flush().await.unwrap();
        }
    });
    for (verify, passes) in [(true, false), (false, true)] {
        let tls = Some(TlsCheck { server_name: Some("web.example".into()), verify });
        let outcome = run(CheckKind::Http(HttpCheck { tls, ..http() }), address).await;
        assert_eq!(outcome.status == CheckStatus::Passing, passes, "{outcome:?}");
    }
}

/// A server of `grpc.health.v1.Health/Check` that always says this.
async fn grpc_server(status: u8, grpc_status: &'static str) -> SocketAddr {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let answer = move |asked: hyper::Request<hyper::body::Incoming>| async move {
            assert_eq!(asked.uri().path(), "/grpc.health.v1.Health/Check");
            let message = Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, status]);
            let mut trailers = hyper::HeaderMap::new();
            trailers.insert("grpc-status", grpc_status.parse().unwrap());
            let body = Full::new(message).with_trailers(std::future::ready(Some(Ok(trailers))));
            Ok::<_, std::convert::Infallible>(hyper::Response::new(body))
        };
        let io = hyper_util::rt::TokioIo::new(stream);
        let executor = hyper_util::rt::TokioExecutor::new();
        let service = hyper::service::service_fn(answer);
        let _ =
            hyper::server::conn::http2::Builder::new(executor).serve_connection(io, service).await;
    });
    address
}

#[tokio::test]
async fn grpc_passes_only_when_serving() {
    let cases = [
        (1, "0", true, "SERVING"),
        (2, "0", false, "NOT_SERVING"),
        (1, "5", false, "grpc-status 5"),
    ];
    for (status, grpc_status, passes, output) in cases {
        let address = grpc_server(status, grpc_status).await;
        let kind = CheckKind::Grpc { target: None, service: "web".into(), tls: None };
        let outcome = run(kind, address).await;
        assert_eq!(outcome.status == CheckStatus::Passing, passes, "{outcome:?}");
        assert!(outcome.output.contains(output), "{outcome:?}");
    }
    let kind = CheckKind::Grpc { target: None, service: String::new(), tls: None };
    let outcome = run(kind, server(b"HTTP/1.1 200 OK\r\n\r\n").await).await;
    assert_eq!(outcome.status, CheckStatus::Critical, "{outcome:?}");
}

#[tokio::test]
async fn a_command_s_exit_decides() {
    let cases = [
        ("echo fine", CheckStatus::Passing, "exit 0: fine"),
        ("echo hm >&2; exit 1", CheckStatus::Warning, "exit 1: hm"),
        ("exit 3", CheckStatus::Critical, "exit 3"),
        ("kill -9 $$", CheckStatus::Critical, "killed by signal 9"),
        ("echo $DUNLIN_INSTANCE $DUNLIN_PORT", CheckStatus::Passing, "exit 0: web-1 1"),
    ];
    for (script, status, output) in cases {
        let outcome = run(command(script), nowhere()).await;
        assert_eq!((outcome.status, outcome.output.as_str()), (status, output));
    }
    let missing = CheckKind::Command { argv: vec!["/no/such/program".into()] };
    assert_eq!(run(missing, nowhere()).await.output, "/no/such/program: no such program");
}

#[tokio::test]
async fn a_gigabyte_of_output_is_cut() {
    let outcome = run(command("head -c 1000000000 /dev/zero | tr '\\0' x"), nowhere()).await;
    assert_eq!(outcome.status, CheckStatus::Passing);
    assert!(outcome.output.len() < 5000);
}

#[tokio::test]
async fn a_child_that_stays_behind_holds_nothing_up_and_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script = format!("sleep 1000 & echo $! > {}; exit 0", pid.display());
    let begun = Instant::now();
    assert_eq!(run(command(&script), nowhere()).await.status, CheckStatus::Passing);
    assert!(begun.elapsed() < Duration::from_secs(15), "the pipe is held by the child");
    until_dead(&pid).await;
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script = format!("sleep 1000 & echo $! > {}; wait", pid.display());
    let mut request = request(command(&script), nowhere());
    let spec = (*request.spec).clone();
    request.spec = Arc::new(CheckSpec { timeout: Duration::from_millis(500), ..spec });
    let outcome = Runner::new(Limits::default()).run(request).await;
    assert_eq!(outcome.output, "timed out after 500ms");
    until_dead(&pid).await;
}

/// Waits until the process whose number a file holds is gone, or only waits to be reaped.
async fn until_dead(file: &Path) {
    let pid = std::fs::read_to_string(file).unwrap();
    let stat = format!("/proc/{}/stat", pid.trim());
    let is_alive = || std::fs::read_to_string(&stat).is_ok_and(|s| !s.contains(") Z "));
    let begun = Instant::now();
    while is_alive() {
        assert!(begun.elapsed() < Duration::from_secs(20), "process {} lives on", pid.trim());
        tokio::task::yield_now().await;
    }
}
