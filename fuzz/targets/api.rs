//! The HTTP API with a stand-in for the driver, which judges every command and accepts it.

#![allow(dead_code, reason = "not every target needs all of it")]

#[path = "catalog.rs"]
mod catalog;
#[path = "registrations.rs"]
mod registrations;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use dunlin_agent::fuzzing::Api;
use dunlin_agent::{Command, Handle, Identity, Shared};
use dunlin_core::host::{Answer, Request};
use dunlin_core::model::limits::MAX_CHECK_OUTPUT_OCTETS;
use dunlin_core::model::{NodeId, NodeName, ZoneName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The octets that the pipe between client and API holds, which is more than any input.
const PIPE_OCTETS: usize = 1 << 20;

/// What a client does when it has sent everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It closes its side.
    Close,
    /// It waits until the API closes the connection, as it was asked to.
    Wait,
}

struct Host {
    runtime: Runtime,
    api: Api,
}

impl Host {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        let view = Arc::new(ArcSwap::from_pointee(catalog::catalog()));
        let shared = Arc::new(Shared::new(identity(), view, 1_000));
        let (commands, queue) = mpsc::channel(16);
        let closing = CancellationToken::new();
        // Watches and long polls end at once: nothing here changes.
        closing.cancel();
        runtime.spawn(agree(queue));
        let api = runtime.block_on(async { Api::new(Handle::new(commands, shared), closing) });
        Self { runtime, api }
    }

    fn send(&self, octets: &[u8], then: Then) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(PIPE_OCTETS);
        self.runtime.block_on(async {
            let served = self.api.serve(server);
            let asked = async move {
                // The API may end the connection before it has read everything.
                drop(client.write_all(octets).await);
                if then == Then::Close {
                    drop(client.shutdown().await);
                }
                let mut reply = Vec::new();
                drop(client.read_to_end(&mut reply).await);
                reply
            };
            tokio::join!(served, asked).1
        })
    }
}

thread_local! {
    static HOST: Host = Host::new();
}

/// What a client receives that sends these octets. If it then closes its side at once, it may receive nothing, since the API
/// considers a client that does not wait for its answer to be gone.
pub(crate) fn send(octets: &[u8], then: Then) -> Vec<u8> {
    HOST.with(|host| host.send(octets, then))
}

/// Stands in for the driver.
async fn agree(mut queue: mpsc::Receiver<Command>) {
    while let Some(Command { request, permit, reply }) = queue.recv().await {
        assert!(permit.is_none(), "this caller may do everything");
        match request {
            Request::Register(registration) => registrations::judge(&registration),
            Request::PutProvider { provider, instances, .. } => {
                registrations::judge_set(&provider, instances);
            }
            Request::PushCheck { output, .. } => assert!(output.len() <= MAX_CHECK_OUTPUT_OCTETS),
            Request::Deregister(_)
            | Request::SetMode(..)
            | Request::SetNodePhase(_)
            | Request::ProviderFailed { .. }
            | Request::RemoveProvider(_)
            | Request::ReleaseGuard(_) => {}
        }
        drop(reply.send(Ok(Answer::Done)));
    }
}

fn identity() -> Identity {
    Identity {
        // As in the catalog, where ids are made from names.
        node_id: NodeId::from_bytes([b'a'; 16]),
        node: NodeName::parse("alpha").expect("a name"),
        zone: ZoneName::parse("eu1").expect("a zone"),
        domain: "dunlin.internal".to_owned(),
        api: SocketAddr::from(([127, 0, 0, 1], 5380)),
        dns: None,
        socket: PathBuf::from("agent.sock"),
        data_dir: PathBuf::from("data"),
        services_dir: PathBuf::from("services.d"),
        started: Instant::now(),
    }
}

/// Every answer of HTTP/1.1 has a code; a client's octets are never the server's fault.
pub(crate) fn judge(reply: &[u8]) {
    let Some(rest) = reply.strip_prefix(b"HTTP/1.") else { return };
    let code = rest.get(2..5).and_then(|code| std::str::from_utf8(code).ok());
    let code: u16 = code.and_then(|code| code.parse().ok()).expect("a status line has a code");
    assert!((100..600).contains(&code) && code != 500, "status {code}");
}
