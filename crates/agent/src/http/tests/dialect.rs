//! A dialect that the machinery has never heard of: plain text, a credential header of its own, a body limit of its
//! own. It lives in this file alone.

use std::convert::Infallible;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use dunlin_shell::listen::Ending;

use super::*;
use crate::access::{Credential, NewToken, Scope, SharedTokens, Tokens};
use crate::http::server::{
    Bodies, BodyLimit, Call, CredentialSource, Dialect, Gate, Refusal, Right,
};
use crate::http::{gate, native, start};

/// Speaks to pigeons: plain text, with the kind of refusal first.
#[derive(Debug)]
struct Pigeon;

impl Dialect for Pigeon {
    fn refuse(&self, refusal: &Refusal) -> Response {
        let Refusal { reason, error, hint } = refusal;
        let text = HeaderValue::from_static("text/plain");
        let body = format!("coo {reason:?}: {error}; {hint}");
        (StatusCode::IM_A_TEAPOT, [(header::CONTENT_TYPE, text)], body).into_response()
    }
}

fn ring(request: &Request) -> Credential<'_> {
    let token = request.headers().get("x-ring").and_then(|value| value.to_str().ok());
    token.map_or(Credential::None, Credential::Token)
}

const READ: Call = Call {
    metric: "pigeon",
    right: Right::Read,
    credentials: CredentialSource { read: ring, hint: "tie the token to X-Ring" },
    dialect: &Pigeon,
    body: BodyLimit::NONE,
};
const SEND: Call = Call { right: Right::Register, body: BodyLimit(8), ..READ };

async fn send(State(bodies): State<Arc<Bodies>>, request: Request) -> Result<Bytes, Response> {
    let read = bodies.read(request).await;
    read.map(|(message, _slot)| message).map_err(|refusal| Pigeon.refuse(&refusal))
}

fn routes(gate: &Gate, limits: &Limits) -> Router {
    let home = get(async || Ok::<_, Infallible>("home")).route_layer(gate.call(READ));
    let send = put(send).route_layer(gate.call(SEND));
    let paths = home.merge(send).merge(gate.no_such_method(SEND));
    Router::new().route("/loft/{name}", paths).with_state(Arc::new(Bodies::new(limits)))
}

/// An API with the dialect beside our own, and two tokens: to read, and to register `web`.
fn fixture() -> (Fixture, [NewToken; 2]) {
    let tokens = [(); 2].map(|()| NewToken::generate().unwrap());
    let scopes = ["read", "register:web"].map(|s| Scope::parse(s).unwrap());
    let entry = |(token, scope): (&NewToken, &Scope)| {
        token.entry(&scope.to_string(), std::slice::from_ref(scope))
    };
    let file: String = tokens.iter().zip(&scopes).map(entry).collect();
    let shared = Arc::new(SharedTokens::fixed(Tokens::parse(&file).unwrap()));
    let access = Access::new(&ApiConfig::default(), Some(shared), u32::MAX - 1);
    let serve = |front: Front, handle: Handle, observer: Arc<Observer>, limits: Limits, stop| {
        let gate = gate(&handle, &observer, &limits, front.access.clone());
        let ending = Ending::new(CancellationToken::clone(&stop));
        let own = native::router(&gate, handle, Arc::clone(&observer), &limits, stop);
        start(front, own.merge(routes(&gate, &limits)), &observer, &limits, ending)
    };
    (Fixture::served_by(serve, Limits::default(), access, None), tokens)
}

async fn ask(
    fixture: &Fixture,
    method: Method,
    header: (&'static str, &str),
    body: &str,
) -> Answer {
    let mut request = request(method, "/loft/north", body.to_owned());
    request.headers_mut().insert(header.0, header.1.parse().unwrap());
    Answer::read(fixture.send(request).await).await
}

fn assert_refused(answer: &Answer, says: &str) {
    assert_eq!(answer.status, StatusCode::IM_A_TEAPOT, "{}", answer.text());
    assert_eq!(answer.headers["content-type"], "text/plain");
    assert!(answer.text().starts_with(says), "{}", answer.text());
}

#[tokio::test]
async fn refusals_are_in_the_words_of_the_route_that_was_asked() {
    let (fixture, [reader, _]) = fixture();
    let bare = fixture.get("/loft/north").await;
    assert_refused(&bare, "coo NoCredential: a token is needed; tie the token to X-Ring");
    let wrong = ask(&fixture, Method::GET, ("x-ring", "dunlin_wrong"), "").await;
    assert_refused(&wrong, "coo UnknownCredential: ");
    let host = ("host", "evil.example");
    assert_refused(&ask(&fixture, Method::GET, host, "").await, "coo ForeignHost: ");
    let long = "x".repeat(20_000);
    let long = ask(&fixture, Method::GET, ("x-long", &long), "").await;
    assert_refused(&long, "coo HeadersTooLarge: ");
    fixture.get("/api/services").await.assert_error(401, "a token is needed");
    let bearer = format!("Bearer {}", reader.secret());
    let elsewhere = ask(&fixture, Method::GET, ("authorization", &bearer), "").await;
    assert_refused(&elsewhere, "coo NoCredential: ");
}

#[tokio::test]
async fn rights_hold_and_so_they_do_for_methods_that_a_path_does_not_take() {
    let (fixture, [reader, writer]) = fixture();
    let (reader, writer) = (("x-ring", reader.secret()), ("x-ring", writer.secret()));
    assert_eq!(ask(&fixture, Method::GET, reader, "").await.text(), "home");
    let refused = ask(&fixture, Method::PUT, reader, "hi").await;
    assert_refused(&refused, "coo NoRight: this needs a token with the scope register:SERVICE");
    assert_eq!(ask(&fixture, Method::PUT, writer, "hi").await.text(), "hi");
    assert_refused(&ask(&fixture, Method::DELETE, reader, "").await, "coo NoRight: ");
    let wrong = ask(&fixture, Method::DELETE, writer, "").await;
    assert_refused(&wrong, "coo NoSuchMethod: /loft/north does not take DELETE");
    assert_eq!(wrong.headers["allow"], "GET,HEAD,PUT");
}

#[tokio::test]
async fn a_body_is_limited_and_calls_are_counted_as_the_route_declares() {
    let (fixture, [_, writer]) = fixture();
    let ring = ("x-ring", writer.secret());
    assert_eq!(ask(&fixture, Method::PUT, ring, "12345678").await.text(), "12345678");
    let large = ask(&fixture, Method::PUT, ring, "123456789").await;
    assert_refused(&large, "coo BodyTooLarge: body: larger than 8 octets");
    let mut metrics = request(Method::GET, "/metrics", "");
    let bearer = format!("Bearer {}", writer.secret());
    metrics.headers_mut().insert("authorization", bearer.parse().unwrap());
    let metrics = Answer::read(fixture.send(metrics).await).await;
    for line in [
        "dunlin_http_requests_total{call=\"pigeon\",status=\"2xx\"} 1",
        "dunlin_http_requests_total{call=\"pigeon\",status=\"4xx\"} 1",
        "dunlin_http_request_duration_seconds_count{call=\"pigeon\"} 2",
    ] {
        assert!(metrics.text().contains(line), "{line}\n{}", metrics.text());
    }
}
