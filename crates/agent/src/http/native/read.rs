//! Reads what clients send: path segments, queries, JSON bodies. What is wrong with it is said in one sentence that
//! names the place.

use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use bytes::Bytes;
use dunlin_core::model::{ServiceName, ZoneName};
use serde::de::DeserializeOwned;
use tokio::sync::SemaphorePermit;

use super::App;
use super::filter::{Filter, WantedHealth};
use super::problem::Problem;

/// Bodies above this are parsed off the threads that answer lookups.
const MAX_INLINE_OCTETS: usize = 256 << 10;

/// The variable parts of a path.
pub(super) struct Segments<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, state).await;
        match read {
            Ok(Path(segments)) => Ok(Self(segments)),
            Err(rejection) => Err(Problem::bad(format!("path: {}", rejection.body_text()))
                .hint("percent-encode UTF-8, e.g. web%2D1")),
        }
    }
}

/// Parses the name of a service in a path.
pub(super) fn service_name(text: &str) -> Result<ServiceName, Problem> {
    ServiceName::parse(text).map_err(|error| {
        Problem::bad(format!("service: {error}"))
            .hint("a service's name has one to four labels, e.g. web or http.api.prod.shop")
    })
}

/// The parameters of a query, in order.
pub(super) fn query(uri: &Uri) -> Result<Vec<(String, String)>, Problem> {
    if uri.query().is_none_or(str::is_empty) {
        return Ok(Vec::new());
    }
    let read = Query::<Vec<(String, String)>>::try_from_uri(uri);
    read.map(|Query(pairs)| pairs)
        .map_err(|error| Problem::bad(format!("query: {}", error.body_text())))
}

/// Refuses a query where none belongs.
pub(super) fn no_query(uri: &Uri) -> Result<(), Problem> {
    match query(uri)?.first() {
        None => Ok(()),
        Some((name, _)) => Err(unknown_parameter(name, "this call takes none")),
    }
}

pub(super) fn unknown_parameter(name: &str, known: &str) -> Problem {
    let shown: String = name.chars().take(64).collect();
    Problem::bad(format!("query: unknown parameter {shown:?}")).hint(known)
}

/// Sets a filter by a parameter of a query. Returns false if the parameter is none of a filter.
pub(super) fn filter_parameter(
    filter: &mut Filter,
    name: &str,
    value: &str,
) -> Result<bool, Problem> {
    match name {
        "zone" if value == "any" => filter.zone = None,
        "zone" => {
            let zone = ZoneName::parse(value).map_err(|error| {
                Problem::bad(format!("query: zone: {error}")).hint("zone=NAME, or zone=any for all")
            })?;
            filter.zone = Some(zone);
        }
        "health" => {
            filter.wanted = match value {
                "healthy" => WantedHealth::Healthy,
                "passing" => WantedHealth::Passing,
                "any" => WantedHealth::Any,
                _ => {
                    let shown: String = value.chars().take(64).collect();
                    return Err(Problem::bad(format!("query: health {shown:?} is unknown"))
                        .hint("health is one of healthy, passing, any"));
                }
            }
        }
        "tag" => filter.add_tag(value)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Parses a number of a query.
pub(super) fn number(name: &str, value: &str) -> Result<u64, Problem> {
    value.parse().map_err(|_| {
        let shown: String = value.chars().take(64).collect();
        Problem::bad(format!("query: {name} {shown:?} is not a whole number"))
    })
}

/// Parses a duration of a query.
pub(super) fn duration(name: &str, value: &str) -> Result<Duration, Problem> {
    humantime::parse_duration(value).map_err(|_| {
        let shown: String = value.chars().take(64).collect();
        Problem::bad(format!("query: {name} {shown:?} is not a duration"))
            .hint(format!("e.g. {name}=30s or {name}=500ms"))
    })
}

/// Reads a JSON body.
pub(super) async fn body<T>(app: &App, request: Request) -> Result<T, Problem>
where
    T: DeserializeOwned + Send + 'static,
{
    let (bytes, _slot) = raw_body(app, request).await?;
    parse_whole(bytes).await
}

/// Reads a JSON body that may be large. The caller keeps the slot until the request is answered: what was read
/// lives as long, and waits for a driver that may be slow.
pub(super) async fn body_and_slot<T>(
    app: &App,
    request: Request,
) -> Result<(T, SemaphorePermit<'_>), Problem>
where
    T: DeserializeOwned + Send + 'static,
{
    let (bytes, slot) = raw_body(app, request).await?;
    Ok((parse_whole(bytes).await?, slot))
}

async fn parse_whole<T>(bytes: Bytes) -> Result<T, Problem>
where
    T: DeserializeOwned + Send + 'static,
{
    if bytes.is_empty() {
        return Err(Problem::bad("body: it is empty").hint("send a JSON object"));
    }
    if bytes.len() <= MAX_INLINE_OCTETS {
        return parse(&bytes);
    }
    let parsed = tokio::task::spawn_blocking(move || parse(&bytes)).await;
    parsed.unwrap_or_else(|_| {
        Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the body could not be read"))
    })
}

/// Reads a JSON body that may be left out.
pub(super) async fn optional_body<T>(app: &App, request: Request) -> Result<Option<T>, Problem>
where
    T: DeserializeOwned,
{
    let (bytes, _slot) = raw_body(app, request).await?;
    if bytes.is_empty() { Ok(None) } else { parse(&bytes).map(Some) }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        Problem::bad(format!("body: not UTF-8 at octet {at}")).hint("JSON is UTF-8 (RFC 8259)")
    })?;
    // serde would also take a list of the fields' values in their order, which no client means.
    if text.trim_start().starts_with('[') {
        return Err(Problem::bad("body: a list").hint("send a JSON object"));
    }
    serde_json::from_str(text).map_err(|error| {
        let hint = match error.classify() {
            serde_json::error::Category::Eof => "the body ends too early; was it cut short?",
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => {
                "the body is not JSON"
            }
            serde_json::error::Category::Data => "GET /api/openapi.json tells what belongs there",
        };
        Problem::bad(format!("body: {error}")).hint(hint)
    })
}

async fn raw_body(app: &App, request: Request) -> Result<(Bytes, SemaphorePermit<'_>), Problem> {
    require_json(request.headers())?;
    Ok(app.bodies.read(request).await?)
}

/// Bodies are JSON. The type that `curl -d` sends by itself is let through, as is a request without a type.
fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let refuse = |what: String| {
        Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, what)
            .hint("send Content-Type: application/json without Content-Encoding"))
    };
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && encoding != "identity"
    {
        return refuse(format!("content-encoding {encoding:?} is not taken"));
    }
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
    let essence = text.split(';').next().unwrap_or_default().trim();
    let taken = matches!(essence, "application/json" | "application/x-www-form-urlencoded");
    if taken || essence.ends_with("+json") {
        return Ok(());
    }
    refuse(format!("content-type {essence:?} is not JSON"))
}
