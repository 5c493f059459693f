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
        // A slot is free again once the server noticed.
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
async fn at_the_limit_the_newest_of_the_greediest_makes_room_for_another_host() {
    let limits = Limits { connections: 3, ..Limits::default() };
    let fixture = Fixture::with(limits);
    let mut oldest = fixture.events("/api/watch", None).await;
    let _second = fixture.events("/api/watch", None).await;
    let mut newest = fixture.events("/api/watch", None).await;
    newest.expect("snapshot").await;
    oldest.expect("snapshot").await;
    // Another address of this host is another client.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
    let stream = soon(socket.connect(fixture.address)).await.unwrap();
    let answer = send_over(TokioIo::new(stream), request(Method::GET, "/metrics", "")).await;
    let metrics = Answer::read(answer).await;
    assert_eq!(metrics.status, StatusCode::OK);
    let gone = soon(newest.body.frame()).await;
    assert!(gone.is_none_or(|frame| frame.is_err()), "its connection is closed");
    fixture.world.put_plain("web", 1);
    oldest.expect("change").await;
    fixture.shows_soon("dunlin_http_connections_shed_total{reason=\"crowded\"} 1.0").await;
}

#[tokio::test]
async fn a_watch_too_many_is_refused_and_one_of_another_host_displaces() {
    let limits = Limits { watches: 2, event_streams: 1, ..Limits::default() };
    let fixture = Fixture::with(limits);
    let mut first = fixture.events("/api/watch", None).await;
    let mut second = fixture.events("/api/watch", None).await;
    second.expect("snapshot").await;
    fixture.get("/api/watch").await.assert_error(503, "too many watches");
    fixture.get("/api/services/web?index=0&wait=10m").await.assert_error(503, "too many watches");
    let answer = fixture.get("/api/services/web?index=1").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND, "what need not wait needs no place");

    let local = fixture.send_unix(request(Method::GET, "/api/watch", "")).await;
    assert_eq!(local.status(), StatusCode::OK);
    assert!(second.next().await.is_none(), "it gave up its place");
    fixture.world.put_plain("web", 1);
    first.expect("snapshot").await;

    let events = fixture.events("/api/events", None).await;
    fixture.get("/api/events").await.assert_error(503, "too many readers");
    drop(events);
}

#[tokio::test]
async fn a_client_that_takes_nothing_loses_its_connection() {
    let limits = Limits { write_timeout: Duration::from_millis(100), ..Limits::default() };
    let fixture = Fixture::with(limits);
    fixture.world.put_plain("web", 5_000);
    let mut stream = soon(TcpStream::connect(fixture.address)).await.unwrap();
    // Answers of some megabytes, more than sockets hold, and none of them is read.
    let get = b"GET /api/services/web HTTP/1.1\r\nhost: dunlin\r\n\r\n";
    for _ in 0..20 {
        if soon(stream.write_all(get)).await.is_err() {
            break;
        }
    }
    fixture.shows_soon("dunlin_http_connections_shed_total{reason=\"stalled\"} 1.0").await;
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

#[tokio::test]
async fn an_http_2_client_that_takes_nothing_loses_its_connection() {
    let limits = Limits { idle_timeout: Duration::from_millis(50), ..Limits::default() };
    let fixture = Fixture::with(limits);
    fixture.world.put_plain("web", 100);
    // A lookup's answer is one piece, a watch's are several; neither fits into what the client lets through.
    for path in ["/api/services/web", "/api/services/web/watch"] {
        let stream = soon(TcpStream::connect(fixture.address)).await.unwrap();
        let executor = hyper_util::rt::TokioExecutor::new();
        let mut builder = hyper::client::conn::http2::Builder::new(executor);
        builder.initial_stream_window_size(16);
        let (mut sender, connection) = soon(builder.handshake(TokioIo::new(stream))).await.unwrap();
        let ended = tokio::spawn(connection);
        let uri = format!("http://{}{path}", fixture.address);
        let get = hyper::Request::get(uri).body(Full::<Bytes>::default()).unwrap();
        let response = soon(sender.send_request(get)).await.unwrap();
        let _ = soon(ended).await.unwrap();
        drop(response);
    }
    fixture.shows_soon("dunlin_http_connections_shed_total{reason=\"stalled\"} 2.0").await;
}

#[tokio::test]
async fn sets_that_wait_for_a_slow_driver_keep_further_ones_out() {
    let queue_timeout = Duration::from_millis(20);
    let limits = Limits { large_bodies: 1, queue_timeout, ..Limits::default() };
    let fixture = Fixture::with(limits);
    let set = r#"{"instances":[]}"#;
    let (world, address) = (Arc::clone(&fixture.world), fixture.address);
    let waiting = tokio::spawn(async move {
        let stream = TcpStream::connect(address).await.unwrap();
        send_over(TokioIo::new(stream), request(Method::PUT, "/api/providers/stuck", set)).await
    });
    soon(async {
        while world.stuck.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    fixture.put("/api/providers/p", set).await.assert_error(503, "too many request bodies");
    let one = fixture.put("/api/instances/w", r#"{"service":"web","port":1}"#).await;
    assert_eq!(one.status, StatusCode::CREATED, "small ones go on");
    for reply in world.stuck.lock().unwrap().drain(..) {
        drop(reply.send(Err(RequestError::NotFound("gone".to_owned()))));
    }
    assert_eq!(soon(waiting).await.unwrap().status(), StatusCode::NOT_FOUND, "it was answered");
    assert_eq!(fixture.put("/api/providers/p", set).await.status, StatusCode::OK);
}
