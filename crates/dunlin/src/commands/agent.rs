//! `dunlin agent`: from the command line to a running agent.

use std::os::unix::process::CommandExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use dunlin_agent::{Inherited, Node, NodeSettings};
use dunlin_core::config::{Config, Reloadable};
use dunlin_shell::systemd;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::context::Context;
use crate::logging::{self, LogHandle};
use crate::machine;
use crate::settings::{self, ResolvedConfig};

/// Time between two attempts to give freed memory back.
const TIDY_INTERVAL: Duration = Duration::from_secs(30);

/// Run the agent of this host.
///
/// Runs until SIGTERM or SIGINT. SIGHUP reads the configuration again, applies what can be applied and
/// says what needs a restart.
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {}

pub(crate) async fn agent(_args: AgentArgs, context: &Context) -> Result<u8> {
    let loaded = settings::load(context.config.as_deref())?;
    let log = logging::start(&loaded.config.log)?;
    let settings = ResolvedConfig::resolve(loaded.config)?;
    let read_again = || Ok(settings::load(context.config.as_deref())?.config);
    run_node(settings, Some(start_anew), log, read_again, |_| {}).await
}

/// Starts the agent, calls `ready` once it answers, and returns when a signal has stopped it.
pub(super) async fn run_node(
    settings: ResolvedConfig,
    start_anew: Option<fn()>,
    log: LogHandle,
    read_again: impl Fn() -> Result<Config>,
    ready: impl Fn(&Node),
) -> Result<u8> {
    let inherited = Inherited::take();
    let mut signals = Signals::listen()?;
    let ResolvedConfig { config, node_name, address, data_dir } = settings;
    let settings =
        NodeSettings { config, name: node_name, address, data_dir, fence: None, start_anew };
    // The configuration in force, with which a new one is compared.
    let mut config = settings.config.clone();
    let mut node = Node::start(settings, inherited).await?;
    ready(&node);
    let status = format!("node {} answers", node.shared().identity.node);
    systemd::ready(&status);
    let mut tidy = tokio::time::interval(TIDY_INTERVAL);
    loop {
        let signal = tokio::select! {
            signal = signals.next() => signal,
            _ = tidy.tick() => {
                // This runs off the threads that serve, and nothing depends on when it is done.
                tokio::task::spawn_blocking(machine::release_memory);
                continue;
            }
            () = node.failed() => bail!("the agent's driver has ended; this is a bug"),
        };
        if signal == Signal::Stop {
            break;
        }
        systemd::reloading();
        match read_again() {
            Ok(new) => {
                apply(&config, &new, &log);
                node.reload(new.clone()).await;
                config = new;
            }
            Err(error) => error!("the configuration is not taken, the old one holds: {error:#}"),
        }
        systemd::ready(&status);
    }
    systemd::stopping();
    // A second signal to stop ends the agent without waiting.
    let stop_again = async { while signals.next().await != Signal::Stop {} };
    tokio::select! {
        () = node.stop() => Ok(0),
        () = stop_again => Ok(1),
    }
}

/// Replaces this process, of which some part hangs, by a new one of the same program with the same arguments. The new
/// one answers from what was last stored. Should that not help within a minute, the program ends, and its supervisor
/// decides.
fn start_anew() {
    const MARK: &str = "DUNLIN_STARTED_ANEW";
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let last = std::env::var(MARK).ok().and_then(|last| last.parse().ok()).unwrap_or(0);
    if now.saturating_sub(last) > 60
        && let Ok(program) = std::env::current_exe()
    {
        let mut command = std::process::Command::new(program);
        // `exec` returns only when it has failed.
        let error = command.args(std::env::args_os().skip(1)).env(MARK, now.to_string()).exec();
        error!(%error, "the agent could not start itself anew");
    }
    std::process::exit(70);
}

/// Says what a new configuration changes, and what of it has to wait for a restart.
pub(super) fn apply(old: &Config, new: &Config, log: &LogHandle) {
    let diff = old.diff_reload(new);
    for change in &diff.reloadable {
        info!(key = change.key, from = change.from, to = change.to, "configuration changed");
    }
    for change in &diff.needs_restart {
        warn!(
            key = change.key,
            from = change.from,
            to = change.to,
            "needs a restart to take effect"
        );
    }
    // The other keys are for the parts of the agent: `Node::reload` takes them over.
    let Reloadable { log_filter, guard: _, dns_ttl: _ } = new.reloadable();
    if let Err(error) = log.set_filter(&log_filter) {
        error!("{error:#}");
    }
}

/// What the system asks of a running agent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Stop,
    Reload,
}

/// The signals that an agent listens to.
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be listened for");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }
}
