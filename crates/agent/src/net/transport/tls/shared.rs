//! The newest credentials, for everything that opens or accepts streams.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use dunlin_core::config::ClusterTls;
use dunlin_core::model::{NodeName, ZoneName};

use super::TlsError;
use super::credentials::{Contents, Credentials};
use super::stream::{Acceptor, Connector};

/// An agent's credentials, replaced as a whole when the files change. Open streams go on with those that they began
/// with.
#[derive(Debug)]
pub struct SharedCredentials {
    files: ClusterTls,
    node: NodeName,
    zone: ZoneName,
    current: ArcSwap<Credentials>,
}

impl SharedCredentials {
    /// Reads this node's credentials. Those that are not valid at the moment are taken: the agent serves lookups
    /// without other agents, too, and [`watch`](super::watch()) reports the problem.
    ///
    /// # Errors
    /// When the files cannot be read, do not fit together, or are another node's.
    pub fn load(files: ClusterTls, node: NodeName, zone: ZoneName) -> Result<Self, TlsError> {
        let credentials = Credentials::load(&files)?;
        credentials.check_node(&node, &zone)?;
        Ok(Self { files, node, zone, current: ArcSwap::from_pointee(credentials) })
    }

    /// The newest credentials.
    #[must_use]
    pub fn current(&self) -> Arc<Credentials> {
        self.current.load_full()
    }

    /// What accepts streams with the newest credentials.
    #[must_use]
    pub fn acceptor(&self) -> Acceptor {
        self.current.load().acceptor()
    }

    /// What opens streams with the newest credentials.
    #[must_use]
    pub fn connector(&self) -> Connector {
        self.current.load().connector()
    }

    /// The files that the credentials are read from.
    #[must_use]
    pub fn files(&self) -> &ClusterTls {
        &self.files
    }

    /// Reads the files, and takes them if they have changed, fit together and are valid now. Returns whether they were
    /// taken. This reads from disk, so a thread that must not wait may not call it.
    ///
    /// # Errors
    /// When the files cannot be used; the old credentials stay in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let contents = Contents::read(&self.files)?;
        if contents.fingerprint() == self.current.load().fingerprint {
            return Ok(false);
        }
        let new = Credentials::from_contents(&self.files, &contents)?;
        new.check_node(&self.node, &self.zone)?;
        new.check_time(SystemTime::now())?;
        self.current.store(Arc::new(new));
        Ok(true)
    }
}
