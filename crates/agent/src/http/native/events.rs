//! What happened on this agent, as a stream.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use bytes::Bytes;
use dunlin_api as api;
use dunlin_shell::{Origin, Slot};
use futures_util::stream;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::sleep;

use super::App;
use super::problem::Problem;
use super::read;
use super::watch::{KEEP_ALIVE, event_stream, last_event_id};

/// What happened, and what happens.
#[utoipa::path(
    get,
    path = "/api/events",
    tag = "agent",
    params(
        ("follow" = Option<bool>, Query, description = "`false` ends the stream after the remembered events; `true` is the default"),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event seen: tells only what came after it")
    ),
    responses(
        (status = 200, content_type = "text/event-stream", body = api::Event,
            description = "The remembered events, then each new one: its kind is the name of the SSE event, its id the id. `event: lagged` with `{\"missed\":N}` when events were lost to a slow reader or to time"),
        (status = 503, description = "Too many readers", body = api::Error)
    )
)]
pub(super) async fn follow_events(
    State(app): State<Arc<App>>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut is_following = true;
    for (name, value) in read::query(&uri)? {
        is_following = match (name.as_str(), value.as_str()) {
            ("follow", "true") => true,
            ("follow", "false") => false,
            ("follow", _) => return Err(Problem::bad("query: follow is true or false")),
            _ => return Err(read::unknown_parameter(&name, "known is follow")),
        };
    }
    let Some(slot) = app.event_streams.take(origin.client()) else {
        return Err(Problem::busy("there are too many readers of events"));
    };
    let (past, news) = app.handle.shared().events.follow(0);
    let (missed, past) = after(past.into(), last_event_id(&headers));
    let news = is_following.then_some(news);
    let reader = EventReader { app, past, news, missed, slot };
    let chunks = stream::unfold(reader, |mut reader| async move {
        let chunk = reader.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), reader))
    });
    Ok(event_stream(Body::from_stream(chunks)))
}

/// The events after the one seen last, and how many between were forgotten. An id that was not given
/// yet is of another life of the agent: all events are news then.
fn after(
    mut past: VecDeque<Arc<api::Event>>,
    seen: Option<u64>,
) -> (u64, VecDeque<Arc<api::Event>>) {
    let (Some(first), Some(last)) = (past.front().map(|e| e.id), past.back().map(|e| e.id)) else {
        return (0, past);
    };
    let Some(seen) = seen.filter(|seen| *seen <= last) else { return (0, past) };
    past.retain(|event| event.id > seen);
    (first.saturating_sub(seen.saturating_add(1)), past)
}

struct EventReader {
    app: Arc<App>,
    past: VecDeque<Arc<api::Event>>,
    news: Option<broadcast::Receiver<Arc<api::Event>>>,
    missed: u64,
    slot: Slot,
}

impl EventReader {
    async fn next(&mut self) -> Option<Bytes> {
        if self.missed > 0 {
            return Some(lagged(std::mem::take(&mut self.missed)));
        }
        if let Some(event) = self.past.pop_front() {
            return Some(encode(&event));
        }
        let news = self.news.as_mut()?;
        tokio::select! {
            // What happened while the agent stops is still told.
            biased;
            event = news.recv() => match event {
                Ok(event) => Some(encode(&event)),
                Err(RecvError::Lagged(missed)) => Some(lagged(missed)),
                Err(RecvError::Closed) => None,
            },
            () = self.app.closing.cancelled() => None,
            () = self.slot.lost() => None,
            () = sleep(self.app.limits.keep_alive) => Some(KEEP_ALIVE),
        }
    }
}

fn encode(event: &api::Event) -> Bytes {
    let json = serde_json::to_string(event).expect("plain data always encodes");
    format!("id: {}\nevent: {}\ndata: {json}\n\n", event.id, event.kind).into()
}

fn lagged(missed: u64) -> Bytes {
    format!("event: lagged\ndata: {{\"missed\":{missed}}}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(ids: std::ops::RangeInclusive<u64>) -> VecDeque<Arc<api::Event>> {
        let event = |id| api::Event {
            id,
            time: String::new(),
            kind: "Tested".into(),
            node: "a".into(),
            service: None,
            instance: None,
            provider: None,
            reason: String::new(),
        };
        ids.map(|id| Arc::new(event(id))).collect()
    }

    #[test]
    fn resuming_tells_what_came_after_and_what_was_lost() {
        let told = |seen| {
            let (missed, past) = after(events(11..=13), seen);
            (missed, past.iter().map(|e| e.id).collect::<Vec<_>>())
        };
        assert_eq!(told(None), (0, vec![11, 12, 13]));
        assert_eq!(told(Some(12)), (0, vec![13]));
        assert_eq!(told(Some(13)), (0, vec![]));
        assert_eq!(told(Some(10)), (0, vec![11, 12, 13]));
        assert_eq!(told(Some(4)), (6, vec![11, 12, 13]));
        assert_eq!(told(Some(99)), (0, vec![11, 12, 13]));
    }
}
