//! The newest credentials, for everything that opens or accepts streams.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use dunlin_core::config::ClusterTls;
use dunlin_core::model::{NodeName, Timestamp, ZoneName};
use dunlin_shell::{Reload, Reloadable, Source, WatchedFiles, keep_current};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::TlsError;
use super::certificate::{PeerIdentity, ending};
use super::credentials::{CredentialFiles, Credentials};
use super::stream::{Acceptor, Connector};

/// An agent's credentials, replaced as a whole when the files change. Open streams go on with those that they began
/// with.
#[derive(Debug)]
pub struct SharedCredentials(Reloadable<CredentialFiles>);

impl SharedCredentials {
    /// Reads this node's credentials. Those that are not valid at the moment are taken: the agent serves lookups
    /// without other agents, too, and [`watch()`] reports the problem.
    ///
    /// # Errors
    /// When the files cannot be read, do not fit together, or are another node's.
    pub fn load(files: ClusterTls, node: NodeName, zone: ZoneName) -> Result<Self, TlsError> {
        let owner = Some(PeerIdentity { node, zone });
        Reloadable::load(CredentialFiles { files, owner }).map(Self)
    }

    /// The newest credentials.
    #[must_use]
    pub fn current(&self) -> Arc<Credentials> {
        self.0.current()
    }

    /// What accepts streams with the newest credentials.
    #[must_use]
    pub fn acceptor(&self) -> Acceptor {
        self.current().acceptor()
    }

    /// What opens streams with the newest credentials.
    #[must_use]
    pub fn connector(&self) -> Connector {
        self.current().connector()
    }
}

impl Reload for SharedCredentials {
    const WHAT: &str = "certificate";

    fn files(&self) -> Vec<PathBuf> {
        self.0.source().paths()
    }

    fn reload(&self) -> Result<bool, String> {
        self.0.reload().map_err(|error| error.to_string())
    }

    fn doubt(&self) -> Option<String> {
        let (current, now) = (self.current(), SystemTime::now());
        let not_valid = || current.check_time(now).err().map(|error| error.to_string());
        ending(&current.not_after(), now).or_else(not_valid)
    }

    fn summary(&self) -> Option<String> {
        let current = self.current();
        let until = Timestamp::from_system(current.not_after());
        Some(format!("{}, valid until {until}", current.certificate()))
    }
}

/// Takes new files as they come, until the token is cancelled. `report` is told what is wrong with the certificate
/// whenever that changes; `None` says that nothing is wrong.
pub async fn watch(
    credentials: Arc<SharedCredentials>,
    report: impl Fn(Option<String>) + Send,
    stop: CancellationToken,
) {
    if let Some(exposed) = credentials.current().exposed_key() {
        warn!(exposed, "the key of the cluster's certificate is not secret");
    }
    let watched = WatchedFiles::new(credentials.files());
    keep_current(credentials, watched, report, stop).await;
}
