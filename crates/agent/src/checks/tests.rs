//! Runs against real servers and programs on this host.

use std::path::Path;
use std::time::{Duration, Instant};

use dunlin_core::model::{CheckId, HttpCheck, StatusRange, TlsCheck};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

fn request(kind: CheckKind, address: SocketAddr) -> CheckRequest {
    let spec = CheckSpec::with_defaults(CheckId::parse("c").unwrap(), kind);
    CheckRequest {
        instance: InstanceId::parse("web-1").unwrap(),
        service: ServiceName::parse("web").unwrap(),
        address,
        spec: Arc::new(CheckSpec { timeout: Duration::from_secs(20), ..spec }),
    }
}

async fn run(kind: CheckKind, address: SocketAddr) -> CheckOutcome {
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
    let (mut stream, _) = listener.accept().await.unwrap();
    let error = stream.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "no TIME_WAIT is left");
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
        (broken, None, false, "expected status 200-299, got 503 Service Unavailable"),
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

/// Speaks TLS with a certificate of its own making, for `web.example`.
fn acceptor(alpn: &[&[u8]]) -> tokio_rustls::TlsAcceptor {
    let key = rcgen::generate_simple_self_signed(vec!["web.example".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let private = rustls::pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn tls_verifies_unless_told_not_to() {
    let acceptor = acceptor(&[]);
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

/// What a gRPC server says: headers, message, trailers.
#[derive(Clone, Copy)]
struct Said {
    headers: Option<(&'static str, &'static str)>,
    status: Option<u8>,
    trailers: &'static [(&'static str, &'static str)],
}

const SERVING: Said = Said { headers: None, status: Some(1), trailers: &[("grpc-status", "0")] };

/// A server of `grpc.health.v1.Health/Check` that always says the same.
async fn grpc_server(said: Said, tls: Option<tokio_rustls::TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        match tls {
            None => serve_grpc(stream, said).await,
            Some(tls) => {
                let stream = tls.accept(stream).await.unwrap();
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                serve_grpc(stream, said).await;
            }
        }
    });
    address
}

async fn serve_grpc(stream: impl connect::CheckStream + 'static, said: Said) {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let answer = move |asked: hyper::Request<hyper::body::Incoming>| async move {
        assert_eq!(asked.uri().path(), "/grpc.health.v1.Health/Check");
        assert_eq!(asked.headers()["te"], "trailers");
        let question = asked.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(question, Bytes::from_static(b"\0\0\0\0\x05\x0a\x03web"));
        let message = said.status.map_or(vec![], |status| vec![0, 0, 0, 0, 2, 8, status]);
        let mut trailers = hyper::HeaderMap::new();
        for (name, value) in said.trailers {
            trailers.insert(*name, value.parse().unwrap());
        }
        let trailers = (!trailers.is_empty()).then_some(Ok(trailers));
        let body = Full::new(Bytes::from(message)).with_trailers(std::future::ready(trailers));
        let mut response = hyper::Response::new(body);
        if let Some((name, value)) = said.headers {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        Ok::<_, std::convert::Infallible>(response)
    };
    let service = hyper::service::service_fn(answer);
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service);
    let _ = connection.await;
}

fn grpc(tls: Option<TlsCheck>) -> CheckKind {
    CheckKind::Grpc { target: None, service: "web".into(), tls }
}

#[tokio::test]
async fn grpc_passes_only_when_serving() {
    let unknown = &[("grpc-status", "5"), ("grpc-message", "unknown service")];
    let cases = [
        (SERVING, true, "SERVING"),
        (Said { status: Some(2), ..SERVING }, false, "NOT_SERVING"),
        (
            Said { status: None, trailers: unknown, ..SERVING },
            false,
            "grpc-status 5: unknown service",
        ),
        // A failure that comes in the headers alone.
        (
            Said { headers: Some(("grpc-status", "12")), status: None, trailers: &[] },
            false,
            "grpc-status 12",
        ),
        (Said { trailers: &[], ..SERVING }, false, "the answer ended without a grpc-status"),
        (Said { status: None, ..SERVING }, false, "the answer is not a HealthCheckResponse"),
    ];
    for (said, passes, output) in cases {
        let address = grpc_server(said, None).await;
        let outcome = run(grpc(None), address).await;
        assert_eq!(outcome.status == CheckStatus::Passing, passes, "{outcome:?}");
        assert_eq!(outcome.output, output);
    }
    for answer in [&b"HTTP/1.1 200 OK\r\n\r\n"[..], b"", b"\0\0\0\0\0\0\0\0\0"] {
        let outcome = run(grpc(None), server(answer).await).await;
        assert_eq!(outcome.status, CheckStatus::Critical, "{outcome:?}");
    }
}

#[tokio::test]
async fn grpc_speaks_http_2_over_tls() {
    for (verify, passes) in [(true, false), (false, true)] {
        let address = grpc_server(SERVING, Some(acceptor(&[b"h2"]))).await;
        let tls = TlsCheck { server_name: Some("web.example".into()), verify };
        let outcome = run(grpc(Some(tls)), address).await;
        assert_eq!(outcome.status == CheckStatus::Passing, passes, "{outcome:?}");
    }
}

#[tokio::test]
async fn a_command_s_exit_decides() {
    let cases = [
        ("echo fine", CheckStatus::Passing, "exit 0: fine"),
        ("echo hm >&2; exit 1", CheckStatus::Warning, "exit 1: hm"),
        ("exit 3", CheckStatus::Critical, "exit 3"),
        ("kill -9 $$", CheckStatus::Critical, "killed by signal 9"),
        ("echo $DUNLIN_INSTANCE $DUNLIN_SERVICE", CheckStatus::Passing, "exit 0: web-1 web"),
        ("echo $DUNLIN_ADDRESS $DUNLIN_PORT", CheckStatus::Passing, "exit 0: 127.0.0.1 1"),
        // Cargo sets this for the test, which stands for the agent here.
        ("echo ${CARGO_MANIFEST_DIR:-none}", CheckStatus::Passing, "exit 0: none"),
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

#[tokio::test]
async fn a_run_that_is_given_up_kills_its_command() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script = format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait", pid.display());
    let task = tokio::spawn(run(command(&script), nowhere()));
    let begun = Instant::now();
    while !pid.exists() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the command never started");
        tokio::task::yield_now().await;
    }
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    until_dead(&pid).await;
}

#[tokio::test]
async fn only_so_many_runs_are_under_way_at_a_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let runner = Arc::new(Runner::new(Limits { connections: 2, commands: 1 }));
    let start = || {
        let (runner, request) = (Arc::clone(&runner), request(CheckKind::Http(http()), address));
        tokio::spawn(async move { runner.run(request).await })
    };
    let runs = [start(), start(), start()];
    let first = listener.accept().await.unwrap();
    let second = listener.accept().await.unwrap();
    // The third run waits for a slot: commands have slots of their own meanwhile.
    assert_eq!(runner.run(request(command("exit 0"), nowhere())).await.output, "exit 0");
    assert_eq!(runner.connections.available_permits(), 0);
    drop(first);
    let third = listener.accept().await.unwrap();
    drop((second, third));
    for run in runs {
        assert_eq!(run.await.unwrap().status, CheckStatus::Critical);
    }
}

/// Linux connects a socket to itself when the port it starts from is the one it goes to.
#[tokio::test]
async fn a_connection_to_itself_is_no_sign_of_life() {
    // A port that connections start from; asked for by the kernel's own choice, then let go.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(address).unwrap();
    let itself = socket.connect(address).await.unwrap();
    assert!(connect::meets_itself(&itself, address));
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
