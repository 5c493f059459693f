//! `dunlin watch`

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use dunlin_api::Service;
use dunlin_api::client::{EventStream, StreamEvent};
use dunlin_core::model::ServiceName;
use serde::Deserialize;
use serde_json::Value;

use crate::access::Agent;
use crate::context::Context;
use crate::render;

/// Time from the end of a stream until the agent is asked again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Print changes of services as they come.
///
/// Prints what there is, then each change as it comes, until interrupted: `+` came, `-` went,
/// `~` changed, `!` guarded. With `--output json`: the whole service per change, one object per line.
///
/// When the agent goes away, waits for it to come back.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Services to watch.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<ServiceName>,
}

pub(crate) async fn watch(args: WatchArgs, context: &Context) -> Result<u8> {
    let query: Vec<_> = args.names.iter().map(|name| format!("service={name}")).collect();
    let path = format!("/api/watch?{}", query.join("&"));
    let agent = context.agent();
    let mut stream = agent.stream(&path, None).await?;
    let mut known = Known::default();
    loop {
        let reason = follow(&mut stream, &mut known, context).await;
        context.out.note(format_args!("{reason}; waiting for the agent to come back"));
        stream = reopen(&agent, &path).await;
        context.out.note("The agent is back.");
    }
}

/// Prints changes until the stream ends, and says why it did.
async fn follow(stream: &mut EventStream, known: &mut Known, context: &Context) -> String {
    loop {
        match stream.next().await {
            Ok(Some(event)) => {
                for service in services_in(&event) {
                    print(known, service, context);
                }
            }
            Ok(None) => return "The agent ended the stream".to_owned(),
            Err(error) => return error.to_string(),
        }
    }
}

/// Opens a new stream, which begins with a snapshot: what changed meanwhile is found by comparing.
async fn reopen(agent: &Agent, path: &str) -> EventStream {
    loop {
        tokio::time::sleep(RETRY_INTERVAL).await;
        if let Ok(stream) = agent.stream(path, None).await {
            return stream;
        }
    }
}

type Known = BTreeMap<String, Service>;

fn print(known: &mut Known, service: Service, context: &Context) {
    let before = known.get(&service.service);
    if before == Some(&service) {
        return;
    }
    if context.out.is_json() {
        context.out.json_line(&service);
    } else {
        for line in render::changes(before, &service) {
            context.out.line(line.replace('\n', " "));
        }
    }
    known.insert(service.service.clone(), service);
}

/// A service as a watch tells it; one that was removed has its name alone.
#[derive(Debug, Deserialize)]
struct Told {
    service: String,
    #[serde(default)]
    index: u64,
    #[serde(default)]
    guarded: bool,
    #[serde(default)]
    instances: Vec<dunlin_api::Instance>,
}

/// The services in an event: one, or a list of them in a snapshot of several.
fn services_in(event: &StreamEvent) -> Vec<Service> {
    let Ok(value) = serde_json::from_str::<Value>(&event.data) else {
        return Vec::new();
    };
    let several = value.get("services").and_then(Value::as_array).or(value.as_array());
    let values = several.cloned().unwrap_or_else(|| vec![value]);
    let told = values.into_iter().filter_map(|v| serde_json::from_value::<Told>(v).ok());
    let service = |t: Told| Service {
        service: t.service,
        index: t.index,
        guarded: t.guarded,
        instances: t.instances,
    };
    told.map(service).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(data: &str) -> Vec<(String, usize)> {
        let event = StreamEvent { data: data.to_owned(), ..StreamEvent::default() };
        let services = services_in(&event);
        services.into_iter().map(|s| (s.service, s.instances.len())).collect()
    }

    #[test]
    fn an_event_holds_one_service_or_several() {
        let web = r#"{"service":"web","index":4,"guarded":false,"instances":[]}"#;
        assert_eq!(told(web), [("web".to_owned(), 0)]);
        assert_eq!(told(&format!("[{web},{web}]")).len(), 2);
        assert_eq!(told(&format!("{{\"services\":[{web}]}}")).len(), 1);
        assert_eq!(told(r#"{"service":"web"}"#), [("web".to_owned(), 0)]);
        assert_eq!(told("hello"), []);
    }
}
