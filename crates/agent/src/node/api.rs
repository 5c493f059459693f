//! The HTTP API as a part of the node: its sockets, and the files that say which callers may use it.

use std::fs::Permissions;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use dunlin_core::config::ApiConfig;
use dunlin_shell::{Reload, WatchedFiles, keep_current};
use tracing::warn;

use super::foundation::Foundation;
use super::parts::{Part, Phase};
use super::{Node, NodeError, NodeSettings};
use crate::access::{Access, SharedTokens};
use crate::handle::Handle;
use crate::http::{ApiCredentials, Front, Limits, serve};

/// Sockets that are bound and files that were read.
pub(super) struct PreparedApi {
    pub(super) address: SocketAddr,
    tcp: Vec<TcpListener>,
    local: UnixListener,
    tokens: Option<Arc<SharedTokens>>,
    credentials: Option<Arc<ApiCredentials>>,
}

/// Binds the sockets that systemd has not bound, reads the files, and warns of what is dangerous about the settings.
///
/// # Errors
/// When a socket cannot be bound, a file is not right, or one of the listeners must not be served without files.
pub(super) fn prepare(
    settings: &NodeSettings,
    mut tcp: Vec<TcpListener>,
    local: Option<UnixListener>,
) -> Result<PreparedApi, NodeError> {
    let config = &settings.config.api;
    if tcp.is_empty() {
        let listener = TcpListener::bind(config.listen);
        tcp.push(listener.map_err(NodeError::listen("the API", config.listen))?);
    }
    let local = match local {
        Some(local) => local,
        None => bind_local(&settings.data_dir.join(Node::SOCKET), config.socket_mode.bits())?,
    };
    let addresses = tcp.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
    let (tokens, credentials) = load_files(config, &addresses)?;
    Ok(PreparedApi { address: addresses[0], tcp, local, tokens, credentials })
}

/// Binds the local socket. One that is there already is stale, since the data directory belongs to this agent alone.
fn bind_local(path: &Path, mode: u32) -> Result<UnixListener, NodeError> {
    let failed = NodeError::listen("the local socket", path.display());
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(&failed)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(&failed)?;
    Ok(listener)
}

type Files = (Option<Arc<SharedTokens>>, Option<Arc<ApiCredentials>>);

fn load_files(config: &ApiConfig, listeners: &[SocketAddr]) -> Result<Files, NodeError> {
    // Listeners that systemd has bound are judged as well; the settings do not name them.
    if let Some(problem) = listeners.iter().find_map(|at| config.check_listener(*at)) {
        return Err(NodeError::Exposed(problem));
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
    Ok((tokens.map(Arc::new), credentials.map(Arc::new)))
}

/// Serves the API, and takes new files as they appear.
///
/// # Errors
/// When the system does not say who this process is, or a listener cannot be given to the runtime.
pub(super) fn start(base: &Foundation, prepared: PreparedApi, handle: &Handle) -> io::Result<Part> {
    let PreparedApi { address: _, tcp, local, tokens, credentials } = prepared;
    let config = &base.settings.config.api;
    let mut part = Part::new("api", Phase::Second);
    // Each end of a pair is told the user of the other end, which is this process here.
    let (own, _) = tokio::net::UnixStream::pair()?;
    let access = Access::new(config, tokens.clone(), own.peer_cred()?.uid());
    let front = Front { tcp, unix: Some(local), credentials: credentials.clone(), access };
    let (observer, limits) = (Arc::clone(&base.observer), Limits::of(config));
    let server = serve(front, handle.clone(), observer, limits, part.stop.clone())?;
    part.on_kill(server.cut_off());
    part.tasks.spawn(server.stopped());
    if let Some(tokens) = tokens {
        keep(tokens, "api-tokens", base, &mut part);
    }
    if let Some(credentials) = credentials {
        keep(credentials, "api-certificate", base, &mut part);
    }
    Ok(part)
}

/// Has files read again when they change and at each reload.
fn keep<R: Reload>(files: Arc<R>, subject: &'static str, base: &Foundation, part: &mut Part) {
    let watched = WatchedFiles::new(files.files());
    let nudge = watched.nudge();
    part.on_reload(move |_| nudge.now());
    part.tasks.spawn(keep_current(files, watched, base.reporter(subject), part.stop.clone()));
}
