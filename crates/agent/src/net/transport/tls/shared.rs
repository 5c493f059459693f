//! The newest credentials, for all who make streams.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use dunlin_core::config::ClusterTls;
use dunlin_core::model::{NodeName, ZoneName};

use super::TlsError;
use super::credentials::{Contents, Credentials};
use super::stream::{Acceptor, Connector};

/// An agent's credentials, replaced as a whole when the files change. Streams that stand go on.
#[derive(Debug)]
pub struct SharedCredentials {
    files: ClusterTls,
    node: NodeName,
    zone: ZoneName,
    current: ArcSwap<Credentials>,
}

impl SharedCredentials {
    /// Reads this node's credentials. Ones that are not valid at the moment are taken: the agent serves
    /// lookups without other agents too, and [`watch`](super::watch()) reports it.
    ///
    /// # Errors
    /// When the files cannot be read, do not fit together, or are another node's.
    pub fn load(files: ClusterTls, node: NodeName, zone: ZoneName) -> Result<Self, TlsError> {
        let credentials = Credentials::load(&files)?;
        credentials.check_node(&node, &zone)?;
        Ok(Self { files, node, zone, current: ArcSwap::from_pointee(credentials) })
    }

    /// The newest ones.
    #[must_use]
    pub fn current(&self) -> Arc<Credentials> {
        self.current.load_full()
    }

    /// What accepts streams now.
    #[must_use]
    pub fn acceptor(&self) -> Acceptor {
        self.current.load().acceptor()
    }

    /// What makes streams now.
    #[must_use]
    pub fn connector(&self) -> Connector {
        self.current.load().connector()
    }

    /// The files they come from.
    #[must_use]
    pub fn files(&self) -> &ClusterTls {
        &self.files
    }

    /// Reads the files, and takes them if they have changed and are good and valid now. Whether they
    /// were taken. Reads from disk, so not for a thread that must not wait.
    ///
    /// # Errors
    /// When they are not good; the old ones stay in use.
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
