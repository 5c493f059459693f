//! Which callers may make which calls.

use dunlin_core::config::SocketUsers;

use super::*;
use crate::access::{NewToken, Scope, SharedTokens, Tokens};

/// No user of a test.
const NOBODY: u32 = u32::MAX - 1;

/// An API with three tokens: to read, to register web, to do everything.
fn guarded() -> (Fixture, [NewToken; 3]) {
    let tokens = [(); 3].map(|()| NewToken::generate().unwrap());
    let scopes = ["read", "register:web", "admin"].map(|s| Scope::parse(s).unwrap());
    let entry = |(token, scope): (&NewToken, &Scope)| {
        token.entry(&scope.to_string(), std::slice::from_ref(scope))
    };
    let file: String = tokens.iter().zip(&scopes).map(entry).collect();
    let shared = Arc::new(SharedTokens::fixed(Tokens::parse(&file).unwrap()));
    let access = Access::new(&ApiConfig::default(), Some(shared), NOBODY);
    (Fixture::guarded(Limits::default(), access), tokens)
}

fn bearing(method: Method, path: &str, body: &str, token: &str) -> hyper::Request<Full<Bytes>> {
    let mut request = request(method, path, body.to_owned());
    let value = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("authorization", value);
    request
}

#[tokio::test]
async fn each_call_needs_its_scope_and_says_which() {
    let (fixture, tokens) = guarded();
    let web = r#"{"service":"web","port":1}"#;
    let set = r#"{"instances":[]}"#;
    let drain = r#"{"enabled":true}"#;
    for (method, path, body, scope, may) in [
        (Method::GET, "/api/services", "", "read", [true, true, true]),
        (Method::GET, "/api/status", "", "read", [true, true, true]),
        (Method::GET, "/metrics", "", "read", [true, true, true]),
        (Method::GET, "/", "", "read", [true, true, true]),
        (Method::PUT, "/api/instances/w", web, "register:", [false, true, true]),
        (Method::PUT, "/api/instances/w/drain", drain, "register:", [false, true, true]),
        (Method::PUT, "/api/providers/p", set, "register:", [false, true, true]),
        (Method::DELETE, "/api/instances/w", "", "register:", [false, true, true]),
        (Method::PUT, "/api/node/drain", drain, "admin", [false, false, true]),
        (Method::DELETE, "/api/guard/web", "", "admin", [false, false, true]),
    ] {
        for (token, may) in tokens.iter().zip(may) {
            let sent = bearing(method.clone(), path, body, token.secret());
            let answer = Answer::read(fixture.send(sent).await).await;
            if may {
                let status = answer.status.as_u16();
                assert!(!matches!(status, 401 | 403), "{method} {path} {}", answer.text());
            } else {
                answer.assert_error(403, &format!("the scope {scope}"));
            }
        }
        let answer = fixture.call(method.clone(), path, body.to_owned()).await;
        answer.assert_error(401, "a token is needed");
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"dunlin\"");
    }
}

#[tokio::test]
async fn who_has_no_token_still_learns_whether_the_agent_lives() {
    let (fixture, _) = guarded();
    fixture.world.shared.set_ready(true);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(fixture.get(path).await.status, StatusCode::OK);
        let sent = bearing(Method::GET, path, "", "dunlin_wrong");
        assert_eq!(fixture.send(sent).await.status(), StatusCode::OK);
    }
    let unknown = fixture.get("/nowhere").await;
    unknown.assert_error(401, "a token is needed");
}

#[tokio::test]
async fn an_unknown_token_is_never_taken_for_none() {
    let (fixture, tokens) = guarded();
    for value in [
        "Bearer dunlin_wrong",
        "Bearer",
        "Basic dXNlcjpwdw==",
        &format!("Token {}", tokens[0].secret()),
    ] {
        let mut sent = request(Method::GET, "/api/services", "");
        sent.headers_mut().insert("authorization", value.parse().unwrap());
        let answer = Answer::read(fixture.send(sent).await).await;
        answer.assert_error(401, "the token is not known");
        let challenge = answer.headers["www-authenticate"].to_str().unwrap();
        assert!(challenge.contains("invalid_token"), "{challenge}");
    }
    let mut sent = request(Method::GET, "/api/services", "");
    let value = format!("bearer  {}", tokens[0].secret()).parse().unwrap();
    sent.headers_mut().insert("authorization", value);
    assert_eq!(fixture.send(sent).await.status(), StatusCode::OK, "RFC 7235 §2.1: any case");
    let sent = bearing(Method::GET, "/metrics", "", tokens[0].secret());
    let metrics = Answer::read(fixture.send(sent).await).await;
    let denied = "dunlin_http_denied_total{reason=\"unknown\"} 4.0";
    assert!(metrics.text().contains(denied), "{}", metrics.text());
}

#[tokio::test]
async fn on_the_socket_the_user_counts() {
    let own = UnixStream::pair().unwrap().0.peer_cred().unwrap().uid();
    if own == 0 {
        // Root may do everything anyway; `Access` has its own test of other users.
        let (fixture, _) = guarded();
        let put = request(Method::PUT, "/api/instances/w", r#"{"service":"web","port":1}"#);
        assert_eq!(fixture.send_unix(put).await.status(), StatusCode::CREATED);
        return;
    }
    let config = ApiConfig { socket_users: SocketUsers::Read, ..ApiConfig::default() };
    let fixture = Fixture::guarded(Limits::default(), Access::new(&config, None, NOBODY));
    let get = fixture.send_unix(request(Method::GET, "/api/services", "")).await;
    assert_eq!(get.status(), StatusCode::OK);
    let put = request(Method::PUT, "/api/instances/w", r#"{"service":"web","port":1}"#);
    Answer::read(fixture.send_unix(put).await).await.assert_error(403, "root");
}

#[tokio::test]
async fn what_does_not_exist_is_told_to_callers_with_the_right_alone() {
    let (fixture, [reader, writer, admin]) = guarded();
    for (method, path, status, [by_none, by_reader, by_writer]) in [
        (Method::GET, "/nowhere", 404, [401, 404, 404]),
        (Method::POST, "/nowhere", 404, [401, 403, 403]),
        (Method::POST, "/api/services", 405, [401, 403, 403]),
        (Method::GET, "/api/node/drain", 405, [401, 405, 405]),
        (Method::POST, "/api/node/drain", 405, [401, 403, 403]),
        (Method::GET, "/api/instances/w", 405, [401, 405, 405]),
        (Method::POST, "/api/instances/w", 405, [401, 403, 405]),
        (Method::POST, "/api/instances/w/checks/c", 405, [401, 403, 405]),
        (Method::PATCH, "/api/providers/p", 405, [401, 403, 405]),
        (Method::POST, "/", 405, [401, 403, 403]),
        (Method::DELETE, "/healthz", 405, [405, 405, 405]),
    ] {
        let bare = fixture.call(method.clone(), path, "").await.status;
        assert_eq!(bare.as_u16(), by_none, "{method} {path}");
        for (token, expected) in [(&reader, by_reader), (&writer, by_writer), (&admin, status)] {
            let sent = bearing(method.clone(), path, "", token.secret());
            let status = fixture.send(sent).await.status();
            assert_eq!(status.as_u16(), expected, "{method} {path}");
        }
    }
}
