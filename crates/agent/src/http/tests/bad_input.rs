//! What clients get wrong, by mistake or on purpose: always a clear error, never a stop.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const WEB: &str = r#"{"service":"web","port":8080}"#;

#[tokio::test]
async fn wrong_queries_and_paths_are_named() {
    let fixture = Fixture::start();
    fixture.world.put_plain("web", 1);
    let long = "x".repeat(64);
    let cases = [
        ("/api/services/web?color=red", "unknown parameter \"color\""),
        ("/api/services/web?health=good", "health \"good\" is unknown"),
        ("/api/services/web?zone=eu.1", "zone"),
        ("/api/services/web?limit=0", "limit 0"),
        ("/api/services/web?limit=-1", "limit \"-1\" is not a whole number"),
        ("/api/services/web?index=x", "index \"x\""),
        ("/api/services/web?index=1&wait=soon", "wait \"soon\" is not a duration"),
        ("/api/services/web?index=1&wait=11m", "longer than 10m"),
        ("/api/services/web?wait=1s", "wait without index"),
        ("/api/services/w%20b", "holds ' '"),
        ("/api/services/web%ff", "path"),
        ("/api/services/a.b.c.d.e", "5 labels"),
        ("/api/services/node", "reserved"),
        (&format!("/api/services/{long}"), "64 octets"),
        ("/api/services/web/watch?limit=1", "unknown parameter \"limit\""),
        ("/api/watch?services=web", "unknown parameter \"services\""),
        ("/api/watch?service=", "empty label"),
        ("/api/services?x=1", "unknown parameter"),
        ("/api/events?follow=maybe", "follow is true or false"),
        ("/api/nodes/a.b", "node"),
        ("/api/providers/ftp:x", "provider"),
        ("/api/providers/run.", "provider"),
    ];
    for (path, says) in cases {
        fixture.get(path).await.assert_error(400, says);
    }
    let names: String = (0..1_025).map(|n| format!("service=s{n}&")).collect();
    let path = format!("/api/watch?{}", names.trim_end_matches('&'));
    fixture.get(&path).await.assert_error(400, "1025 services; at most 1024");
}

#[tokio::test]
async fn unknown_calls_and_methods_are_named() {
    let fixture = Fixture::start();
    fixture.get("/api/nothing").await.assert_error(404, "there is no call GET /api/nothing");
    fixture.get("/api/services/").await.assert_error(404, "there is no call");
    let posted = fixture.call(Method::POST, "/api/instances/web-1", WEB).await;
    posted.assert_error(405, "does not take POST");
    let allowed = posted.headers["allow"].to_str().unwrap();
    assert!(allowed.contains("PUT") && allowed.contains("DELETE"), "{allowed}");
}

#[tokio::test]
async fn wrong_registrations_are_refused_whole() {
    let fixture = Fixture::start();
    let cases: [(&[u8], &str); 16] = [
        (b"", "empty"),
        (b"{", "EOF while parsing an object at line 1 column 1"),
        (b" [\"web-1\",\"web\",null,80]", "a list"),
        (b"nonsense", "line 1 column 2"),
        (b"{\"service\":\"w\xff\",\"port\":1}", "not UTF-8 at octet 13"),
        (b"{\"service\":\"web\",\"port\":1} x", "trailing characters at line 1"),
        (b"{\"service\":\"web\",\"port\":1,\"colour\":1}", "unknown field `colour`"),
        (b"{\"service\":\"web\",\"port\":1,\"port\":2}", "duplicate field `port`"),
        (
            b"{\"service\":\"web\",\"port\":1,\"meta\":{\"a\":\"1\",\"a\":\"2\"}}",
            "duplicate key `a`",
        ),
        (b"{\"service\":\"web\",\"port\":\"80\"}", "invalid type: string"),
        (b"{\"service\":\"web\",\"port\":0}", "port 0 is outside"),
        (b"{\"service\":\"web\",\"port\":65536}", "port 65536"),
        (b"{\"service\":\"-web\",\"port\":1}", "begins or ends"),
        (b"{\"service\":\"web\",\"port\":1,\"address\":\"db.example\"}", "not an IPv4"),
        (b"{\"id\":\"web-2\",\"service\":\"web\",\"port\":1}", "is not the path's"),
        (
            b"{\"service\":\"web\",\"port\":1,\"check\":[{\"kind\":\"tcp\",\"interval\":\"0s\"}]}",
            "interval",
        ),
    ];
    for (body, says) in cases {
        fixture.put("/api/instances/web-1", Bytes::from_static(body)).await.assert_error(400, says);
    }
    fixture.put("/api/instances/a%2Fb", WEB).await.assert_error(400, "'/'");
    fixture.put("/api/instances/web-1?force=1", WEB).await.assert_error(400, "force");
    assert!(fixture.get("/api/instances").await.ids().is_empty());
}

#[tokio::test]
async fn a_wrong_set_changes_nothing_and_names_the_place() {
    let fixture = Fixture::start();
    let cases = [
        (
            r#"{"instances":[{"id":"a","service":"web","port":1},{"id":"b","service":"web","port":0}]}"#,
            "instances[1] (b): port 0",
        ),
        (
            r#"{"instances":[{"id":"a","service":"web","port":1},{"id":"a","service":"web","port":2}]}"#,
            "instances[1] (a): its id was used above",
        ),
        (r#"{"instances":[{"service":"web","port":1}]}"#, "instances[0] (): id"),
        (r#"{"instances":[],"ttl":"soon"}"#, "ttl \"soon\""),
        (r#"{"instances":[],"ttl":"1ms"}"#, "outside 1s"),
        (r#"{"instances":[],"instance":[]}"#, "duplicate field"),
        (r#"{"set":[]}"#, "unknown field `set`"),
    ];
    for (body, says) in cases {
        fixture.put("/api/providers/deploy", body).await.assert_error(400, says);
    }
    let one = r#"{"id":"a","service":"web","port":1}"#;
    let many = format!("{{\"instances\":[{}]}}", vec![one; 10_001].join(","));
    fixture.put("/api/providers/deploy", many).await.assert_error(400, "10001 instances");
    assert!(fixture.get("/api/instances").await.ids().is_empty());
}

#[tokio::test]
async fn bodies_have_a_size_and_a_type() {
    let fixture = Fixture::start();
    let large = vec![b' '; (1 << 20) + 1];
    fixture.put("/api/instances/web-1", large.clone()).await.assert_error(413, "1 MiB");
    // What is too large for one instance is fine for a set.
    let mut set = br#"{"instances":[]}"#.to_vec();
    set.extend_from_slice(&large);
    assert_eq!(fixture.put("/api/providers/deploy", set).await.status, StatusCode::OK);
    let huge = vec![b' '; (16 << 20) + 1];
    fixture.put("/api/providers/deploy", huge).await.assert_error(413, "16 MiB");

    let typed = |name: &'static str, value: &'static str| {
        let mut request = request(Method::PUT, "/api/instances/web-1", WEB);
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    for (name, value) in [
        ("content-type", "text/html"),
        ("content-type", "application/toml"),
        ("content-encoding", "gzip"),
    ] {
        let answer = Answer::read(fixture.send(typed(name, value)).await).await;
        answer.assert_error(415, value);
    }
    for value in [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/x-www-form-urlencoded",
        "application/merge-patch+json",
    ] {
        let answer = fixture.send(typed("content-type", value)).await;
        assert!(answer.status().is_success(), "{value}");
    }
}

/// Sends octets and returns all that comes back.
async fn raw(fixture: &Fixture, octets: &[u8], is_ending: bool) -> String {
    let mut stream = soon(TcpStream::connect(fixture.address)).await.unwrap();
    soon(stream.write_all(octets)).await.unwrap();
    if is_ending {
        soon(stream.shutdown()).await.unwrap();
    }
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_body_cut_short_registers_nothing() {
    let fixture = Fixture::start();
    let cut = b"PUT /api/instances/web-1 HTTP/1.1\r\nhost: d\r\ncontent-length: 900\r\n\r\n{\"service\":\"web\",\"port\":1}";
    let answer = raw(&fixture, cut, true).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    let cut = b"PUT /api/instances/web-1 HTTP/1.1\r\nhost: d\r\ntransfer-encoding: chunked\r\n\r\n1a\r\n{\"service\":\"web\",\"port\":1}\r\n";
    let answer = raw(&fixture, cut, true).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(fixture.get("/api/instances").await.ids().is_empty());
}

#[tokio::test]
async fn an_endless_body_is_given_up() {
    let limits = Limits { body_timeout: Duration::from_millis(50), ..Limits::default() };
    let fixture = Fixture::with(limits);
    let half = b"PUT /api/instances/web-1 HTTP/1.1\r\nhost: d\r\ncontent-length: 900\r\n\r\n{";
    let answer = raw(&fixture, half, false).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("not complete after 50ms"), "{answer}");
}

#[tokio::test]
async fn large_heads_are_refused() {
    let fixture = Fixture::start();
    let with_header = |octets: usize| {
        let mut request = request(Method::GET, "/api/services", "");
        request.headers_mut().insert("x-large", "x".repeat(octets).parse().unwrap());
        request
    };
    let answer = Answer::read(fixture.send(with_header(20_000)).await).await;
    answer.assert_error(431, "at most 16384");
    let answer = fixture.send(with_header(200_000)).await;
    assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let many = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
    let many = format!("GET /api/services HTTP/1.1\r\nhost: d\r\n{many}\r\n");
    let answer = raw(&fixture, many.as_bytes(), false).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn garbage_ends_its_own_connection_alone() {
    let fixture = Fixture::start();
    for garbage in [
        &b"\x00\xff\x16\x03\x01 nonsense\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense, not frames, for long enough to be read",
        b"PUT /api/instances/a HTTP/1.1\r\nhost: d\r\ncontent-length: x\r\n\r\n",
        b"PUT /api/instances/a HTTP/1.1\r\nhost: d\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let mut stream = soon(TcpStream::connect(fixture.address)).await.unwrap();
        soon(stream.write_all(garbage)).await.unwrap();
        soon(stream.shutdown()).await.unwrap();
        let mut answer = Vec::new();
        // Whether it is answered or just closed is hyper's affair, but it ends.
        let _ = soon(stream.read_to_end(&mut answer)).await;
    }
    assert_eq!(fixture.get("/healthz").await.status, StatusCode::OK);
}
