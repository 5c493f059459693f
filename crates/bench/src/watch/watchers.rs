//! Clients that follow changes by streams of events or by long polls.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dunlin_bench::rig::agent::Agent;
use dunlin_bench::rig::client::{Client, holds};
use dunlin_bench::rig::crowd::Crowd;
use serde_json::Value;

/// Waiting for news fails after this time.
const NEWS_TIMEOUT: Duration = Duration::from_secs(30);

/// How clients wait for changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WatchKind {
    /// Server-Sent Events.
    Stream,
    /// A request that is answered at the next change, then the next one.
    LongPoll,
}

impl WatchKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stream => "watches",
            Self::LongPoll => "long polls",
        }
    }

    fn request(self, service: usize, index: u64) -> String {
        match self {
            Self::Stream => {
                format!(
                    "GET /api/services/w{service}/watch?health=any HTTP/1.1\r\nHost: localhost\r\n\r\n"
                )
            }
            Self::LongPoll => format!(
                "GET /api/services/w{service}?health=any&index={index}&wait=10m HTTP/1.1\r\nHost: localhost\r\n\r\n"
            ),
        }
    }
}

/// Many clients, each with a connection.
pub(super) struct Watchers {
    kind: WatchKind,
    crowd: Crowd,
    services: Vec<usize>,
}

impl Watchers {
    /// Opens `count` watches, each of the service of the number that `service` says.
    pub(super) fn open(
        kind: WatchKind,
        agent: &Agent,
        client: &mut Client,
        count: usize,
        service: impl Fn(usize) -> usize,
    ) -> Result<Self> {
        let index = newest_index(client)?;
        let services: Vec<usize> = (0..count).map(service).collect();
        let request = |number: usize| kind.request(services[number], index);
        let mut crowd = Crowd::open(agent.address(), count, request)?;
        if kind == WatchKind::Stream {
            crowd.wait_for("event: snapshot", count)?;
        }
        Ok(Self { kind, crowd, services })
    }

    /// Receives news for a while, and polls again where a client has to. Returns the number of news items.
    pub(super) fn serve_for(&mut self, time: Duration) -> Result<usize> {
        let end = Instant::now() + time;
        let mut told = 0;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            told += self.serve(left, |octets| holds(octets, b"\"weight\":"))?;
        }
        Ok(told)
    }

    /// Waits until `count` clients have been told news that holds `sign`. Returns when the last of them was.
    pub(super) fn wait_for(&mut self, sign: &str, count: usize) -> Result<Instant> {
        let deadline = Instant::now() + NEWS_TIMEOUT;
        let mut told = 0;
        loop {
            told += self.serve(NEWS_TIMEOUT, |octets| holds(octets, sign.as_bytes()))?;
            let now = Instant::now();
            if told >= count {
                return Ok(now);
            }
            if now > deadline {
                bail!("{} of {count} watchers were not told within {NEWS_TIMEOUT:?}", count - told);
            }
        }
    }

    /// Receives once what has come. Returns the number of news items in it.
    fn serve(&mut self, wait: Duration, is_news: impl Fn(&[u8]) -> bool) -> Result<usize> {
        let mut told = 0;
        let mut again = Vec::new();
        self.crowd.take(wait, &mut |number, octets| {
            told += usize::from(is_news(octets));
            if self.kind == WatchKind::LongPoll {
                again.push((number, index_in(octets).context("an answer without an index")?));
            }
            Ok(())
        })?;
        for (number, index) in again {
            self.crowd.send(number, &self.kind.request(self.services[number], index))?;
        }
        Ok(told)
    }
}

/// The index of the newest service.
fn newest_index(client: &mut Client) -> Result<u64> {
    let list: Value = serde_json::from_slice(&client.expect("GET", "/api/services", b"")?)?;
    let services = list["services"].as_array().context("no list of services")?;
    services.iter().filter_map(|s| s["index"].as_u64()).max().context("no services")
}

/// The index that an answer carries in its head.
fn index_in(octets: &[u8]) -> Option<u64> {
    let head = octets.windows(4).position(|end| end == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&octets[..head]).ok()?;
    let line = head.lines().find_map(|line| line.strip_prefix("dunlin-index: "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_its_index() {
        let answer = b"HTTP/1.1 200 OK\r\ndunlin-index: 17\r\nx: y\r\n\r\n{}";
        assert_eq!(index_in(answer), Some(17));
        assert_eq!(index_in(b"HTTP/1.1 200 OK\r\n\r\ndunlin-index: 17"), None);
    }
}
