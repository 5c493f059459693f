//! A small client for an agent's API, over its local socket, TCP or TLS.
//!
//! One connection per call: commands are short-lived and the agent is on the same host. Everything that
//! comes in is bounded in size and time, so an endless or silent answer is an error, not a hang. It is
//! not a general HTTP client: no redirects, no proxies.

mod credentials;
mod endpoint;
mod sse;
#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use credentials::{Credentials, CredentialsError};
pub use endpoint::{Endpoint, EndpointError};
use sse::Parser;
pub use sse::StreamEvent;

/// Octets of one answer.
const MAX_ANSWER_OCTETS: usize = 64 * 1024 * 1024;

/// Why a call failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No agent listens there, or none answered in time. Whether the agent acted on a call that was already sent is not
    /// known.
    #[error("no answer from {endpoint}: {source}")]
    Unreachable {
        /// The endpoint that was tried.
        endpoint: Endpoint,
        /// The error of the system.
        source: io::Error,
    },
    /// The agent refused; it changed nothing.
    #[error("{error}")]
    Api {
        /// The HTTP status, 400 to 599.
        status: u16,
        /// What was wrong.
        error: String,
        /// What would be right; may be empty.
        hint: String,
    },
    /// What answered does not speak Dunlin's API, or stopped in the middle.
    #[error("{endpoint} answered, but {problem}")]
    Protocol {
        /// The endpoint that answered.
        endpoint: Endpoint,
        /// What is wrong with the answer.
        problem: String,
    },
}

impl ClientError {
    /// Whether the agent does not know what was asked for.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { status: 404, .. })
    }

    /// Whether no agent answered.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// How long a client waits for an agent.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// The time for a connection.
    pub connect: Duration,
    /// The time for a whole answer, and for the head of a stream.
    pub answer: Duration,
    /// The time between two pieces of a stream; the agent sends comments when nothing happens.
    pub silence: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            answer: Duration::from_secs(30),
            silence: Duration::from_secs(60),
        }
    }
}

/// A client of one agent.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Endpoint,
    timeouts: Timeouts,
    credentials: Credentials,
}

impl Client {
    /// A client with default timeouts. Nothing is sent yet.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self::with_timeouts(endpoint, Timeouts::default())
    }

    /// A client with timeouts of the caller's choice.
    #[must_use]
    pub fn with_timeouts(endpoint: Endpoint, timeouts: Timeouts) -> Self {
        Self { endpoint, timeouts, credentials: Credentials::default() }
    }

    /// The same client with these credentials. A token is sent wherever the endpoint is; over plain HTTP it can be read
    /// on its way.
    #[must_use]
    pub fn with_credentials(self, credentials: Credentials) -> Self {
        Self { credentials, ..self }
    }

    /// The credentials of the client.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The endpoint of the agent.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// `GET path`, with the query if there is one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    /// `PUT path` with a JSON body. An empty answer reads as JSON `null`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put<B, T>(&self, path: &str, body: &B) -> Result<T, ClientError>
    where
        B: Serialize + Sync + ?Sized,
        T: DeserializeOwned,
    {
        let body = serde_json::to_vec(body)
            .map_err(|e| self.protocol(format!("the request could not be written as JSON: {e}")))?;
        self.call(Method::PUT, path, body.into()).await
    }

    /// `DELETE path`. An empty answer reads as JSON `null`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::DELETE, path, Bytes::new()).await
    }

    /// Opens a stream of Server-Sent Events; `last_event_id` resumes an earlier one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn stream(
        &self,
        path: &str,
        last_event_id: Option<&str>,
    ) -> Result<EventStream, ClientError> {
        let mut request = self.request(Method::GET, path, Bytes::new())?;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, "text/event-stream".parse().expect("a valid header value"));
        if let Some(id) = last_event_id {
            let id = id.parse();
            let id = id.map_err(|_| self.protocol("the last event's id cannot be sent".into()))?;
            headers.insert("last-event-id", id);
        }
        let mut connection = self.connect().await?;
        let response = timeout(self.timeouts.answer, connection.send(self, request));
        let response = response.await.map_err(|_| self.too_slow("an answer"))??;
        if response.status() != StatusCode::OK {
            return Err(self.read_refusal(response).await);
        }
        let (body, parser) = (response.into_body(), Parser::default());
        Ok(EventStream { client: self.clone(), body, parser, _connection: connection })
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let request = self.request(method, path, body)?;
        let mut connection = self.connect().await?;
        let whole = async {
            let response = connection.send(self, request).await?;
            if !response.status().is_success() {
                return Err(self.read_refusal(response).await);
            }
            self.read(response).await
        };
        let body = timeout(self.timeouts.answer, whole).await;
        let body = body.map_err(|_| self.too_slow("a whole answer"))??;
        let text: &[u8] = if body.is_empty() { b"null" } else { &body };
        serde_json::from_slice(text)
            .map_err(|e| self.protocol(format!("not as Dunlin's API does: {e}")))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(HOST, self.endpoint.host());
        if let Some(authorization) = self.credentials.authorization() {
            request = request.header(AUTHORIZATION, authorization);
        }
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body));
        request.map_err(|e| self.protocol(format!("{path:?} cannot be asked for: {e}")))
    }

    async fn connect(&self) -> Result<Connection, ClientError> {
        let connecting = async {
            match &self.endpoint {
                Endpoint::Unix(path) => {
                    let stream = UnixStream::connect(path).await;
                    self.handshake(stream).await
                }
                Endpoint::Http(authority) => {
                    let stream = TcpStream::connect(authority).await;
                    self.handshake(stream).await
                }
                Endpoint::Https(authority) => {
                    self.handshake(self.credentials.connect(authority).await).await
                }
            }
        };
        let connected = timeout(self.timeouts.connect, connecting).await;
        connected.map_err(|_| self.too_slow("a connection"))?
    }

    async fn handshake<S>(&self, stream: io::Result<S>) -> Result<Connection, ClientError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let stream = stream.map_err(|e| self.unreachable(e))?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|e| self.broken(&e))?;
        // Errors of the connection reach the caller through the sender and the body.
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Connection { sender, driver })
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = Limited::new(response.into_body(), MAX_ANSWER_OCTETS);
        let whole = body.collect().await.map_err(|e| {
            if e.is::<LengthLimitError>() {
                return self.protocol(format!("with more than {MAX_ANSWER_OCTETS} octets"));
            }
            self.protocol(format!("stopped in the middle: {e}"))
        })?;
        Ok(whole.to_bytes())
    }

    async fn read_refusal(&self, response: Response<Incoming>) -> ClientError {
        let status = response.status().as_u16();
        let body = match timeout(self.timeouts.answer, self.read(response)).await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => return error,
            Err(_) => return self.too_slow("a whole answer"),
        };
        match serde_json::from_slice::<crate::Error>(&body) {
            Ok(crate::Error { error, hint }) => ClientError::Api { status, error, hint },
            Err(_) => self.protocol(format!("with status {status} and no word of Dunlin's API")),
        }
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        ClientError::Unreachable { endpoint: self.endpoint.clone(), source }
    }

    fn too_slow(&self, what: &str) -> ClientError {
        let message = format!("{what} took too long");
        self.unreachable(io::Error::new(io::ErrorKind::TimedOut, message))
    }

    fn protocol(&self, problem: String) -> ClientError {
        ClientError::Protocol { endpoint: self.endpoint.clone(), problem }
    }

    fn broken(&self, error: &hyper::Error) -> ClientError {
        let cause = std::error::Error::source(error);
        let cause = cause.map(|c| format!(" ({c})")).unwrap_or_default();
        self.protocol(format!("not in HTTP: {error}{cause}"))
    }
}

/// One HTTP/1.1 connection; its driver ends with it.
#[derive(Debug)]
struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Connection {
    async fn send(
        &mut self,
        client: &Client,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, ClientError> {
        self.sender.send_request(request).await.map_err(|e| client.broken(&e))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A stream of Server-Sent Events, open until dropped.
#[derive(Debug)]
pub struct EventStream {
    client: Client,
    body: Incoming,
    parser: Parser,
    _connection: Connection,
}

impl EventStream {
    /// Waits for the next event; `None` when the agent ended the stream, as it does at shutdown.
    ///
    /// # Errors
    /// When the connection breaks, nothing at all comes for [`Timeouts::silence`], or an event is
    /// larger than 16 MiB. The stream is of no use after an error.
    pub async fn next(&mut self) -> Result<Option<StreamEvent>, ClientError> {
        loop {
            if let Some(event) = self.parser.next() {
                return Ok(Some(event));
            }
            let frame = timeout(self.client.timeouts.silence, self.body.frame()).await;
            let frame = frame.map_err(|_| self.client.too_slow("the next sign of life"))?;
            let Some(frame) = frame else {
                return Ok(None);
            };
            let frame = frame.map_err(|e| self.client.broken(&e))?;
            if let Ok(piece) = frame.into_data() {
                let pushed = self.parser.push(&piece);
                pushed.map_err(|e| self.client.protocol(e.to_string()))?;
            }
        }
    }
}
