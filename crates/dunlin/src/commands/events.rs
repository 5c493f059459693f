//! `dunlin events`

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use dunlin_api::Event;
use dunlin_api::client::{EventStream, StreamEvent};
use tokio::time::timeout;

use crate::context::Context;
use crate::failure::DONE;
use crate::render;

/// The silence after which all remembered events are printed: the agent sends them without a pause.
const REMEMBERED_TIMEOUT: Duration = Duration::from_millis(500);
/// Events that are printed without `--follow`, in case they come faster than they are read.
const MAX_EVENTS: usize = 10_000;

/// Print what happened on this host lately.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on with what happens from now on, until interrupted.
    #[arg(long, short)]
    follow: bool,
}

pub(crate) async fn events(args: EventsArgs, context: &Context) -> Result<u8> {
    // From the first event that the agent still remembers.
    let mut stream = context.agent().stream("/api/events", Some("0")).await?;
    let mut printed = 0;
    while let Some(event) = next(&mut stream, args.follow).await? {
        print(context, &event);
        printed += 1;
        if !args.follow && printed >= MAX_EVENTS {
            break;
        }
    }
    if printed == 0 && !context.out.is_json() {
        context.out.note("Nothing has happened since the agent started.");
    }
    Ok(DONE)
}

async fn next(stream: &mut EventStream, follow: bool) -> Result<Option<StreamEvent>> {
    if follow {
        return Ok(stream.next().await?);
    }
    match timeout(REMEMBERED_TIMEOUT, stream.next()).await {
        Ok(event) => Ok(event?),
        Err(_) => Ok(None),
    }
}

/// Prints an event; a newer agent's that cannot be read is shown as it came.
fn print(context: &Context, event: &StreamEvent) {
    match serde_json::from_str::<Event>(&event.data) {
        Ok(known) if context.out.is_json() => context.out.json_line(&known),
        Ok(known) => context.out.line(render::event(&known).replace('\n', " ")),
        Err(_) => context.out.line(event.data.replace('\n', " ")),
    }
}
