//! TLS on the API's TCP listener.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use dunlin_core::config::ApiTls;
use dunlin_shell::tls::{ServerCredentials, ServerFiles, TlsFileError};
use dunlin_shell::{Reload, Source, open_to_all};

use crate::net::tls::ending;

/// Why the API's certificates cannot be used. The ones in use stay so.
pub type ApiTlsError = TlsFileError;

/// The protocols of the API, the preferred one first.
const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

/// The API's certificate, and what is asked of clients.
#[derive(Debug)]
pub struct ApiCredentials(Arc<ServerCredentials>);

impl ApiCredentials {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read, does not hold what it should, or they do not fit together.
    pub fn load(files: ApiTls) -> Result<Self, ApiTlsError> {
        let ApiTls { cert, key, client_ca } = files;
        let files = ServerFiles { cert, key, client_ca, alpn: ALPN };
        ServerCredentials::load(files).map(|credentials| Self(Arc::new(credentials)))
    }

    pub(super) fn server(&self) -> &Arc<ServerCredentials> {
        &self.0
    }

    /// A warning when every user of this host can read the key.
    #[must_use]
    pub fn exposed_key(&self) -> Option<String> {
        open_to_all(&self.0.source().key, self.0.current().key_mode, 0o007)
    }
}

impl Reload for ApiCredentials {
    const WHAT: &str = "certificate of the API";

    fn files(&self) -> Vec<PathBuf> {
        self.0.source().paths()
    }

    fn reload(&self) -> Result<bool, String> {
        self.0.reload().map_err(|error| error.to_string())
    }

    fn doubt(&self) -> Option<String> {
        ending(&self.0.current().not_after?, SystemTime::now())
    }
}
