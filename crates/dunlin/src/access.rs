//! How commands find the agent and speak to it.

use std::fmt::Write;

use anyhow::Result;
use dunlin_api::client::{Client, ClientError, Credentials, Endpoint, EventStream, Timeouts};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::failure::Failure;
use crate::settings::{self, ResolvedConfig};

/// The name of the local socket in the data directory.
pub(crate) const SOCKET_NAME: &str = "agent.sock";

/// The places where the agent may listen, in the order in which they are tried.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    clients: Vec<Client>,
}

impl Context {
    /// The agent that was named, or the one of this host.
    pub(crate) fn agent(&self) -> Agent {
        Agent::find(self)
    }
}

impl Agent {
    /// The agent that was named; else the one of this host: its socket, then its API's address.
    pub(crate) fn find(context: &Context) -> Self {
        if let Some(endpoint) = &context.named_agent {
            return Self::at([endpoint.clone()]).showing(&context.credentials);
        }
        let config = settings::load(context.config.as_deref()).map(|loaded| loaded.config);
        let config = config.unwrap_or_else(|error| {
            context.out.note(format_args!("dunlin: {error:#}; looking for the agent by defaults"));
            dunlin_core::config::Config::default()
        });
        let api = config.api.listen;
        let data_dir = ResolvedConfig::data_dir(&config);
        let socket = data_dir.ok().map(|dir| Endpoint::Unix(dir.join(SOCKET_NAME)));
        let address = settings::reachable(api);
        let of = if config.api.tls.is_some() { Endpoint::Https } else { Endpoint::Http };
        let address = of(address.to_string());
        Self::at(socket.into_iter().chain([address])).showing(&context.credentials)
    }

    pub(crate) fn at(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        let clients = endpoints.into_iter().map(Client::new).collect();
        Self { clients }
    }

    /// The same agent, called with these credentials.
    fn showing(self, credentials: &Credentials) -> Self {
        let showing = |c: Client| c.with_credentials(credentials.clone());
        Self { clients: self.clients.into_iter().map(showing).collect() }
    }

    /// The same agent, called with these timeouts.
    pub(crate) fn with_timeouts(&self, timeouts: Timeouts) -> Self {
        let sooner = |c: &Client| {
            let sooner = Client::with_timeouts(c.endpoint().clone(), timeouts);
            sooner.with_credentials(c.credentials().clone())
        };
        Self { clients: self.clients.iter().map(sooner).collect() }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call(|client| async move { client.get(path).await }).await
    }

    pub(crate) async fn put<B, T>(&self, path: &str, body: &B) -> Result<T>
    where
        B: Serialize + Sync,
        T: DeserializeOwned,
    {
        self.call(|client| async move { client.put(path, body).await }).await
    }

    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call(|client| async move { client.delete(path).await }).await
    }

    pub(crate) async fn stream(&self, path: &str, last_id: Option<&str>) -> Result<EventStream> {
        self.call(|client| async move { client.stream(path, last_id).await }).await
    }

    /// Makes a call at the first place where an agent answers.
    async fn call<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let mut message = String::from("no agent answers; tried");
        for client in &self.clients {
            match call(client.clone()).await {
                Err(ClientError::Unreachable { endpoint, source }) => {
                    let _ = write!(message, "\n  {endpoint}: {source}");
                }
                answer => return Ok(answer?),
            }
        }
        let hint = "Start one with `dunlin agent`, or `dunlin dev` to try things out; if it listens \
            elsewhere, name it with --agent or DUNLIN_AGENT.";
        Err(Failure::unreachable(message, hint).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{UNREACHABLE, exit_code};

    #[tokio::test]
    async fn an_unreachable_agent_is_told_with_every_place_that_was_tried() {
        let folder = tempfile::tempdir().unwrap();
        let agent = Agent::at([
            Endpoint::Unix(folder.path().join(SOCKET_NAME)),
            Endpoint::Unix(folder.path().join("other.sock")),
        ]);
        let error = agent.get::<()>("/api/status").await.unwrap_err();
        assert_eq!(exit_code(&error), UNREACHABLE);
        let text = error.to_string();
        assert!(text.contains("agent.sock: ") && text.contains("other.sock: "), "{text}");
    }
}
