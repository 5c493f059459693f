//! What the API grants its clients at most.

use std::time::Duration;

use dunlin_core::config::ApiConfig;

/// What the API grants its clients at most.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections over TCP. At the limit, the client with the most connections loses the newest to a client with
    /// fewer; otherwise the new connection is told so and closed. A watch over HTTP/1.1 takes one.
    pub connections: usize,
    /// Open connections of one client over TCP.
    pub connections_per_client: usize,
    /// Open connections on the local socket, counted apart so that the network cannot lock out its host.
    pub local_connections: usize,
    /// How long the head of a request may take, and how long a connection may idle between two requests.
    pub idle_timeout: Duration,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// Octets of a request's headers together.
    pub header_octets: usize,
    /// How long open requests may take to end once the agent stops.
    pub drain_timeout: Duration,
    /// Time between comments on a watch on which nothing else happens.
    pub keep_alive: Duration,
    /// Bodies read at the same time; further requests wait.
    pub bodies: usize,
    /// Large bodies (complete sets of providers) read and not yet answered; further requests wait.
    pub large_bodies: usize,
    /// How long a request waits while too many other bodies are being read.
    pub queue_timeout: Duration,
    /// Watches and long polls; shared like connections.
    pub watches: usize,
    /// Watches and long polls of one client.
    pub watches_per_client: usize,
    /// Readers of `/api/events`; shared like connections.
    pub event_streams: usize,
    /// How long a client may take nothing of what it is sent, and its host acknowledge nothing.
    pub write_timeout: Duration,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
}

impl Limits {
    /// The defaults, with what the configuration sets.
    #[must_use]
    pub fn of(config: &ApiConfig) -> Self {
        Self {
            connections_per_client: config.connections_per_client.into(),
            watches_per_client: config.watches_per_client.into(),
            ..Self::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            connections_per_client: 16_384,
            local_connections: 1_024,
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            header_octets: 16 << 10,
            drain_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(15),
            bodies: 256,
            large_bodies: 8,
            queue_timeout: Duration::from_secs(5),
            watches: 16_384,
            watches_per_client: 16_384,
            event_streams: 1_024,
            write_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
        }
    }
}
