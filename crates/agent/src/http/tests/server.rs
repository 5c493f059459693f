//! Connections: their limits, their idling, and how they end.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[tokio::test]
async fn shutting_down_ends_watches_and_answers_long_polls() {
    let fixture = Fixture::start();
    let world = &fixture.world;
    let index = world.put_plain("web", 1);
    let mut watch = fixture.events("/api/services/web/watch", None).await;
    watch.expect("snapshot").await;
    let mut events = fixture.events("/api/events", None).await;
    let poll = format!("/api/services/web?index={index}&wait=10m");
    let (answer, ()) = tokio::join!(fixture.get(&poll), async {
        while world.shared.watchers.count() < 2 {
            tokio::task::yield_now().await;
        }
        fixture.shutdown.cancel();
    });
    assert_eq!(answer.ids(), ["web-0"]);
    assert!(watch.next().await.is_none());
    assert!(events.next().await.is_none());
    soon(fixture.server.stopped()).await;
    assert!(TcpStream::connect(fixture.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_client_that_does_not_read_cannot_hold_up_the_shutdown() {
    let limits = Limits { drain_timeout: Duration::from_millis(50), ..Limits::default() };
    let fixture = Fixture::with(limits);
    let mut stream = soon(TcpStream::connect(fixture.address)).await.unwrap();
    let half = b"PUT /api/instances/web-1 HTTP/1.1\r\nhost: d\r\ncontent-length: 9\r\n\r\n{";
    soon(stream.write_all(half)).await.unwrap();
    fixture.get("/healthz").await;
    fixture.shutdown.cancel();
    soon(fixture.server.stopped()).await;
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let fixture = Fixture::with(limits);
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(fixture.events("/api/watch", None).await);
    }
    let mut stream = soon(TcpStream::connect(fixture.address)).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
    serde_json::from_str::<api::Error>(body).unwrap();
    // The host itself still gets through, and sees why.
    let metrics = fixture.send_unix(request(Method::GET, "/metrics", "")).await;
    let metrics = Answer::read(metrics).await;
    let refused = "dunlin_http_connections_refused_total{transport=\"tcp\"} 1.0";
    assert!(metrics.text().contains(refused), "{}", metrics.text());
    drop(held);
    soon(async {
        // A place is free again once the server noticed.
        loop {
            let stream = TcpStream::connect(fixture.address).await.unwrap();
            let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
            let (mut sender, connection) = handshake.await.unwrap();
            tokio::spawn(connection);
            let get = request(Method::GET, "/healthz", "");
            if sender.send_request(get).await.is_ok_and(|r| r.status() == StatusCode::OK) {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn silent_slow_and_idle_connections_are_closed() {
    let limits = Limits { idle_timeout: Duration::from_millis(50), ..Limits::default() };
    let fixture = Fixture::with(limits);
    let beginnings: [&[u8]; 4] =
        [b"", b"GET /heal", b"PRI * HTTP", b"GET /healthz HTTP/1.1\r\nhost: dunlin\r\n\r\n"];
    for beginning in beginnings {
        let mut stream = soon(TcpStream::connect(fixture.address)).await.unwrap();
        soon(stream.write_all(beginning)).await.unwrap();
        let mut answer = Vec::new();
        let _ = soon(stream.read_to_end(&mut answer)).await;
    }
}

#[tokio::test]
async fn an_idle_http_2_connection_is_closed_and_a_watching_one_is_not() {
    let limits = Limits { idle_timeout: Duration::from_millis(50), ..Limits::default() };
    let fixture = Fixture::with(limits);
    fixture.world.put_plain("web", 1);
    let connect = async || {
        let stream = soon(TcpStream::connect(fixture.address)).await.unwrap();
        let executor = hyper_util::rt::TokioExecutor::new();
        let handshake = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream));
        soon(handshake).await.unwrap()
    };
    let get = |path: &str| {
        let uri = format!("http://{}{path}", fixture.address);
        hyper::Request::get(uri).body(Full::<Bytes>::default()).unwrap()
    };
    let (mut watching, connection) = connect().await;
    tokio::spawn(connection);
    let response = soon(watching.send_request(get("/api/services/web/watch"))).await.unwrap();
    let mut watch = Events { body: response.into_body(), text: String::new() };
    watch.expect("snapshot").await;

    let (mut idle, connection) = connect().await;
    let ended = tokio::spawn(connection);
    Answer::read(soon(idle.send_request(get("/healthz"))).await.unwrap()).await;
    let _ = soon(ended).await.unwrap();

    fixture.world.put_plain("web", 2);
    assert_eq!(watch.expect("change").await.ids().len(), 2);
}
