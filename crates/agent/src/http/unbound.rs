//! The API without listeners, for the streams of fuzz targets.

use std::sync::Arc;

use dunlin_core::config::ApiConfig;
use dunlin_shell::listen::{Ending, Serve};
use dunlin_shell::{FairLimit, Origin};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::limits::Limits;
use super::server::Connection;
use super::{gate, native};
use crate::Handle;
use crate::access::Access;

/// The user as which the agent of a fuzz target would run, and that talks to it.
const OWN_USER: u32 = 0;

/// The API without listeners, for the streams of fuzz targets.
#[derive(Clone)]
pub(crate) struct Unbound {
    connection: Arc<Connection>,
    slots: Arc<FairLimit>,
}

impl Unbound {
    pub(crate) fn new(handle: Handle, closing: CancellationToken) -> Self {
        let observer = Arc::new(crate::observe::observer(Arc::clone(handle.shared())));
        let limits = Limits::default();
        let access = Access::new(&ApiConfig::default(), None, OWN_USER);
        let gate = gate(&handle, &observer, &limits, access);
        let router = native::router(&gate, handle, observer, &limits, closing);
        let ending = Ending::new(CancellationToken::new());
        let connection = Connection::new(router, &limits, ending, native::FULL);
        Self { connection: Arc::new(connection), slots: FairLimit::new(limits.watches) }
    }

    pub(crate) async fn serve<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let origin = Origin::Local(OWN_USER);
        let slot = self.slots.take(origin.client()).expect("streams come one after another");
        Arc::clone(&self.connection).serve(stream, origin, &slot).await;
    }
}
