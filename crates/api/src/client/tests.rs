//! The client against a server that says exactly what a test wants, over both kinds of socket.

use std::path::Path;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use super::*;

/// What the server does after it has read a request's head.
#[derive(Clone)]
enum Script {
    /// Says this, then hangs up.
    Say(Vec<u8>),
    /// Says this, then the second part again and again.
    SayForever(Vec<u8>, Vec<u8>),
    /// Says this, then nothing, without hanging up.
    FallSilent(Vec<u8>),
}

fn say(text: impl AsRef<[u8]>) -> Script {
    Script::Say(text.as_ref().to_vec())
}

fn ok(body: &str) -> Script {
    let length = body.len();
    say(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}"))
}

async fn play<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, script: Script) -> String {
    let mut request = Vec::new();
    let has_ended = |r: &[u8]| {
        let text = String::from_utf8_lossy(r).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            return false;
        };
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
        body.len() >= length.unwrap_or(0)
    };
    while !has_ended(&request) {
        let mut piece = [0; 1024];
        let Ok(octets @ 1..) = stream.read(&mut piece).await else {
            break;
        };
        request.extend_from_slice(&piece[..octets]);
    }
    match script {
        Script::Say(text) => {
            let _ = stream.write_all(&text).await;
        }
        Script::SayForever(text, more) => {
            let _ = stream.write_all(&text).await;
            while stream.write_all(&more).await.is_ok() {}
        }
        Script::FallSilent(text) => {
            let _ = stream.write_all(&text).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    }
    String::from_utf8_lossy(&request).into_owned()
}

fn quick(endpoint: Endpoint) -> Client {
    Client::with_timeouts(
        endpoint,
        Timeouts {
            connect: Duration::from_secs(30),
            answer: Duration::from_secs(30),
            silence: Duration::from_secs(30),
        },
    )
}

async fn tcp(script: Script) -> (Client, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server =
        tokio::spawn(async move { play(listener.accept().await.unwrap().0, script).await });
    (quick(Endpoint::parse(&endpoint).unwrap()), server)
}

async fn unix(path: &Path, script: Script) -> (Client, JoinHandle<String>) {
    let listener = UnixListener::bind(path).unwrap();
    let server =
        tokio::spawn(async move { play(listener.accept().await.unwrap().0, script).await });
    (quick(Endpoint::Unix(path.to_owned())), server)
}

#[tokio::test]
async fn both_kinds_of_socket_carry_the_same_call() {
    let folder = tempfile::tempdir().unwrap();
    let over_tcp = tcp(ok(r#"{"a":1}"#)).await;
    let over_unix = unix(&folder.path().join("a.sock"), ok(r#"{"a":1}"#)).await;
    for (client, server) in [over_tcp, over_unix] {
        let answer: Value = client.put("/api/x?y=1", &json!({"b": 2})).await.unwrap();
        assert_eq!(answer, json!({"a": 1}));
        let request = server.await.unwrap();
        assert!(request.starts_with("PUT /api/x?y=1 HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("content-type: application/json"), "{request}");
        assert!(request.ends_with("{\"b\":2}"), "{request}");
    }
}

#[tokio::test]
async fn an_empty_answer_is_null() {
    let (client, _server) = tcp(say("HTTP/1.1 204 No Content\r\n\r\n")).await;
    assert_eq!(client.delete::<Value>("/api/x").await.unwrap(), Value::Null);
}

#[tokio::test]
async fn a_refusal_carries_the_agents_words() {
    let body = r#"{"error":"no such service","hint":"try web"}"#;
    let head = format!("HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n", body.len());
    let (client, _server) = tcp(say(head + body)).await;
    let error = client.get::<Value>("/api/x").await.unwrap_err();
    assert!(error.is_not_found());
    let ClientError::Api { error, hint, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((error.as_str(), hint.as_str()), ("no such service", "try web"));
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let client = quick(Endpoint::Unix(folder.path().join("absent.sock")));
    let error = client.get::<Value>("/api/status").await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    assert!(error.to_string().contains("absent.sock"), "{error}");
}

#[tokio::test]
async fn what_is_not_dunlin_is_told_apart() {
    for (script, expected) in [
        (say("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{\"a\":"), "stopped in the middle"),
        (say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"), "not as Dunlin's API does"),
        (say("HTTP/1.1 502 Oops\r\ncontent-length: 5\r\n\r\nhello"), "with status 502"),
        (say("SSH-2.0-OpenSSH\r\n"), "not in HTTP"),
        (say(""), "not in HTTP"),
        (
            say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
            "stopped in the middle",
        ),
    ] {
        let (client, _server) = tcp(script).await;
        let error = client.get::<Value>("/api/status").await.unwrap_err();
        assert!(matches!(error, ClientError::Protocol { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n[".into();
    let (client, _server) = tcp(Script::SayForever(head, vec![b' '; 1 << 20])).await;
    let error = client.get::<Value>("/api/services").await.unwrap_err().to_string();
    assert!(error.contains("with more than 67108864 octets"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n".to_vec();
    let (client, _server) = tcp(Script::FallSilent(head)).await;
    let error = client.get::<Value>("/api/services").await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    assert!(error.to_string().contains("took too long"), "{error}");
}

#[tokio::test]
async fn a_stream_gives_events_until_it_ends() {
    let text = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n\
        :\n\nevent: snapshot\nid: 1\ndata: {}\n\ndata: half";
    let (client, server) = tcp(say(text)).await;
    let mut stream = client.stream("/api/watch?service=web", Some("41")).await.unwrap();
    let event = stream.next().await.unwrap().unwrap();
    assert_eq!((event.event.as_str(), event.data.as_str()), ("snapshot", "{}"));
    assert_eq!(stream.next().await.unwrap(), None);
    assert!(server.await.unwrap().contains("last-event-id: 41"));
}

#[tokio::test]
async fn a_stream_that_breaks_or_never_ends_its_line_is_an_error() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let (client, _server) = tcp(say(format!("{head}5\r\nda"))).await;
    let mut stream = client.stream("/api/events", None).await.unwrap();
    assert!(matches!(stream.next().await, Err(ClientError::Protocol { .. })));

    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\ndata: ".into();
    let (client, _server) = tcp(Script::SayForever(head, vec![b'x'; 1 << 20])).await;
    let mut stream = client.stream("/api/events", None).await.unwrap();
    let error = stream.next().await.unwrap_err().to_string();
    assert!(error.contains("an event of more than"), "{error}");
}
