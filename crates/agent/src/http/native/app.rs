//! What every handler may use.

use std::sync::Arc;

use bytes::Bytes;
use dunlin_core::host::{self, RequestError};
use dunlin_shell::FairLimit;
use dunlin_shell::metrics::Observer;
use tokio_util::sync::CancellationToken;

use super::encoded::Encodings;
use super::provider_pages::ProviderPages;
use crate::Handle;
use crate::access::Grant;
use crate::http::limits::Limits;
use crate::http::server::Bodies;

/// What every handler may use.
#[derive(Debug)]
pub(super) struct App {
    pub(super) handle: Handle,
    pub(super) observer: Arc<Observer>,
    pub(super) encodings: Arc<Encodings>,
    pub(super) provider_pages: ProviderPages,
    /// The description of this API.
    pub(super) openapi: Bytes,
    pub(super) limits: Limits,
    /// Cancelled when the agent stops: watches end and long polls answer.
    pub(super) closing: CancellationToken,
    pub(super) bodies: Bodies,
    pub(super) watches: Arc<FairLimit>,
    pub(super) event_streams: Arc<FairLimit>,
}

impl App {
    /// Asks the driver on a caller's behalf. Which services the caller may touch is judged there: the driver alone
    /// knows what a statement replaces.
    pub(super) async fn ask_as(
        &self,
        grant: &Grant,
        request: host::Request,
    ) -> Result<host::Answer, RequestError> {
        self.handle.ask_within(grant.permit(), request).await
    }
}
