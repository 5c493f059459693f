//! What the API is served with: the rules of access, and TLS, both kept up to date.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use dunlin_core::config::ApiConfig;
use dunlin_shell::{Nudge, Reload, WatchedFiles, keep_current};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::NodeError;
use crate::access::{Access, SharedTokens};
use crate::handle::Shared;
use crate::http::{ApiCredentials, Front};

/// The files that say which callers may use the API.
pub(super) struct ApiGuard {
    tokens: Option<Arc<SharedTokens>>,
    credentials: Option<Arc<ApiCredentials>>,
}

impl ApiGuard {
    /// Reads the files, and warns of what is dangerous about the settings.
    ///
    /// # Errors
    /// When a file is not right, or one of the listeners must not be served without any.
    pub(super) fn load(config: &ApiConfig, listeners: &[SocketAddr]) -> Result<Self, NodeError> {
        // Also those that systemd has bound, of which the settings know nothing.
        for address in listeners {
            if let Some(problem) = config.check_listener(*address) {
                return Err(NodeError::Exposed(problem));
            }
        }
        let tokens = config.tokens_file.as_deref().map(SharedTokens::load).transpose()?;
        let credentials = config.tls.clone().map(ApiCredentials::load).transpose()?;
        if let Some(exposure) = listeners.iter().find_map(|at| config.exposure(*at)) {
            warn!(exposure, "the API is exposed");
        }
        if let Some(exposed) = tokens.as_ref().and_then(SharedTokens::exposed) {
            warn!(exposed, "who may do what is no secret");
        }
        if let Some(exposed) = credentials.as_ref().and_then(ApiCredentials::exposed_key) {
            warn!(exposed, "the key of the API's certificate is not secret");
        }
        Ok(Self { tokens: tokens.map(Arc::new), credentials: credentials.map(Arc::new) })
    }

    /// Where the API is served, and by which rules.
    ///
    /// # Errors
    /// When the system does not say who this process is.
    pub(super) fn front(
        &self,
        config: &ApiConfig,
        tcp: Vec<TcpListener>,
        local: UnixListener,
    ) -> std::io::Result<Front> {
        // What the other end of a socket is told of this process.
        let (own, _) = tokio::net::UnixStream::pair()?;
        let access = Access::new(config, self.tokens.clone(), own.peer_cred()?.uid());
        Ok(Front { tcp, unix: Some(local), credentials: self.credentials.clone(), access })
    }

    /// Takes new files as they come. The nudges have them looked at.
    pub(super) fn watch(
        self,
        shared: &Arc<Shared>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Vec<Nudge> {
        let tokens = self.tokens.map(|t| keep(t, "api-tokens", shared, tasks, stop));
        let tls = self.credentials.map(|c| keep(c, "api-certificate", shared, tasks, stop));
        tokens.into_iter().chain(tls).collect()
    }
}

fn keep<R: Reload>(
    files: Arc<R>,
    subject: &'static str,
    shared: &Arc<Shared>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Nudge {
    let shared = Arc::clone(shared);
    let report = move |problem: Option<String>| match problem {
        Some(problem) => shared.problems.set(subject, problem),
        None => shared.problems.clear(subject),
    };
    let watched = WatchedFiles::new(files.files());
    let nudge = watched.nudge();
    tasks.spawn(keep_current(files, watched, report, stop.clone()));
    nudge
}
