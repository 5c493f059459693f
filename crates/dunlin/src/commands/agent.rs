//! `dunlin agent` and `dunlin dev`: from the command line to a running agent.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use dunlin_agent::systemd::{self, Inherited};
use dunlin_agent::{Identity, Node, NodeSettings};
use dunlin_core::config::Config;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::cli::Context;
use crate::logging::{self, LogHandle};
use crate::settings::{self, Settings};

/// The port at which commands look for an agent that they are not told of.
const DEFAULT_API_PORT: u16 = 5380;

/// Run the agent of this host.
///
/// Runs until SIGTERM or SIGINT. SIGHUP reads the configuration again, applies what can be applied and
/// says what needs a restart.
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {}

/// Run an agent to try things out.
///
/// Everything on loopback with default ports, and nothing left behind: made to try things out.
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Keep the state and the services folder here [default: a temporary folder].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

pub(crate) async fn agent(_args: AgentArgs, context: &Context) -> Result<u8> {
    let loaded = settings::load(context.config.as_deref())?;
    let log = logging::start(&loaded.config.log)?;
    let settings = Settings::resolve(loaded.config)?;
    let read_again = || Ok(settings::load(context.config.as_deref())?.config);
    run_node(settings, log, read_again, |_| {}).await
}

pub(crate) async fn dev(args: DevArgs, context: &Context) -> Result<u8> {
    let mut config = settings::load(context.config.as_deref())?.config;
    // Lives until the agent has stopped; dropping it removes the folder.
    let mut temporary: Option<TempDir> = None;
    let data_dir = match args.data_dir {
        Some(dir) => dir,
        None => {
            let folder = tempfile::Builder::new().prefix("dunlin-dev-").tempdir();
            let folder = folder.context("no temporary folder could be made")?;
            temporary.insert(folder).path().to_owned()
        }
    };
    settle_on_loopback(&mut config, data_dir.clone());
    std::fs::create_dir_all(&config.providers.dir)
        .with_context(|| format!("the services folder {}", config.providers.dir.display()))?;
    let log = logging::start(&config.log)?;
    let settings = Settings::resolve(config)?;
    let read_again = || {
        let mut config = settings::load(context.config.as_deref())?.config;
        settle_on_loopback(&mut config, data_dir.clone());
        Ok(config)
    };
    let program = std::env::args().next().unwrap_or_else(|| "dunlin".to_owned());
    let welcome = |node: &Node| {
        context.out.raw(welcome(&node.shared().identity, &program).as_bytes());
    };
    let code = run_node(settings, log, read_again, welcome).await;
    drop(temporary);
    code
}

/// Whatever the configuration says, `dev` shows nothing to the network and keeps to its own folder.
fn settle_on_loopback(config: &mut Config, data_dir: PathBuf) {
    let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
    for listen in [&mut config.api.listen, &mut config.dns.listen, &mut config.cluster.listen] {
        if !listen.ip().is_loopback() {
            listen.set_ip(loopback);
        }
    }
    if !config.node.address.is_some_and(|a| a.is_loopback()) {
        config.node.address = Some(loopback);
    }
    config.providers.dir = data_dir.join("services.d");
    config.node.data_dir = Some(data_dir);
}

/// Starts the agent, calls `ready` once it answers, and returns when a signal has stopped it.
async fn run_node(
    settings: Settings,
    log: LogHandle,
    read_again: impl Fn() -> Result<Config>,
    ready: impl Fn(&Node),
) -> Result<u8> {
    let inherited = Inherited::take();
    let mut signals = Signals::listen()?;
    let Settings { config, node_name, address, data_dir } = settings;
    let settings = NodeSettings { config, name: node_name, address, data_dir };
    // As it was settled; what a new one leaves open stays as it is.
    let mut config = settings.config.clone();
    let mut node = Node::start(settings, inherited).await?;
    ready(&node);
    let status = format!("node {} answers", node.shared().identity.node);
    systemd::ready(&status);
    loop {
        let signal = tokio::select! {
            signal = signals.next() => signal,
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
    // A second signal to stop ends it the hard way.
    let stop_again = async { while signals.next().await != Signal::Stop {} };
    tokio::select! {
        () = node.stop() => Ok(0),
        () = stop_again => Ok(1),
    }
}

/// Says what a new configuration changes, and what of it has to wait for a restart.
fn apply(old: &Config, new: &Config, log: &LogHandle) {
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
    if let Err(error) = log.set_filter(&new.log.filter) {
        error!("{error:#}");
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Signal {
    Stop,
    Reload,
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be listened for");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }
}

/// What a newcomer needs to know: where everything is, and three commands to try.
fn welcome(identity: &Identity, program: &str) -> String {
    let Identity { node, zone, domain, api, socket, services_dir, .. } = identity;
    // Commands look at the default port by themselves.
    let agent = match api.port() {
        DEFAULT_API_PORT => String::new(),
        _ => format!("--agent http://{api} "),
    };
    let (dns, dig) = match identity.dns {
        Some(dns) => (
            format!("{dns} (UDP and TCP)"),
            format!("dig @{} -p {} web.{domain} SRV", dns.ip(), dns.port()),
        ),
        None => ("off".to_owned(), format!("curl http://{api}/api/services/web")),
    };
    let server = "python3 -m http.server 8080 --bind 127.0.0.1";
    format!(
        "Dunlin is up: node {node} in zone {zone}\n\n  \
         API              http://{api}\n  \
         DNS              {dns}\n  \
         local socket     {socket}\n  \
         services folder  {services}\n\n\
         Try in another terminal:\n  \
         {program} {agent}run --service web:8080 --check http:/ -- {server}\n  \
         {program} {agent}lookup web\n  \
         {dig}\n\n\
         Ctrl-C stops it.\n",
        socket = socket.display(),
        services = services_dir.display(),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use dunlin_core::model::{NodeId, NodeName, ZoneName};

    use super::*;

    fn dev_settings() -> Settings {
        let text = "[node]\nname = \"n1\"\naddress = \"10.0.0.5\"\n[api]\nlisten = \"0.0.0.0:5380\"\n\
            [dns]\nlisten = \"127.0.0.2:5300\"";
        let mut config = Config::parse(text, "f").unwrap();
        settle_on_loopback(&mut config, "/tmp/d".into());
        Settings::resolve(config).unwrap()
    }

    #[test]
    fn dev_shows_nothing_to_the_network() {
        let settings = dev_settings();
        assert!(settings.address.is_loopback());
        assert!(settings.config.cluster.listen.ip().is_loopback());
        assert_eq!(settings.config.api.listen.to_string(), "127.0.0.1:5380");
        assert_eq!(settings.config.dns.listen.to_string(), "127.0.0.2:5300");
        assert_eq!(settings.config.providers.dir, PathBuf::from("/tmp/d/services.d"));
    }

    #[test]
    fn the_welcome_says_where_everything_is_and_what_to_try() {
        let identity = Identity {
            node_id: NodeId::from_bytes([1; 16]),
            node: NodeName::parse("n1").unwrap(),
            zone: ZoneName::parse("z1").unwrap(),
            domain: "dunlin.internal".to_owned(),
            api: "127.0.0.1:5381".parse().unwrap(),
            dns: Some("127.0.0.2:5300".parse().unwrap()),
            socket: "/tmp/d/agent.sock".into(),
            data_dir: "/tmp/d".into(),
            services_dir: "/tmp/d/services.d".into(),
            started: Instant::now(),
        };
        let text = welcome(&identity, "dunlin");
        for part in [
            "node n1 in zone z1",
            "API              http://127.0.0.1:5381",
            "DNS              127.0.0.2:5300",
            "local socket     /tmp/d/agent.sock",
            "services folder  /tmp/d/services.d",
            "dunlin --agent http://127.0.0.1:5381 lookup web",
            "dig @127.0.0.2 -p 5300 web.dunlin.internal SRV",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
