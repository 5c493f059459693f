//! `dunlin dev`: one agent to try things out, or several that form a cluster in one process.
//!
//! One agent runs as `dunlin agent` does, on loopback and with its state in a temporary folder. Several get a
//! throw-away authority, an address of their own each, and a console.

mod certificates;
mod console;
mod fleet;
mod lines;
mod order;
mod seat;
mod welcome;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use dunlin_agent::{Identity, Node};
use dunlin_core::config::Config;
use tracing::error;

use self::fleet::Fleet;
use self::lines::{Line, Lines};
use self::seat::Seat;
use super::agent::{self, Signal, Signals};
use crate::context::Context;
use crate::failure::{DONE, Failure};
use crate::logging;
use crate::settings::{self, ResolvedConfig};

/// Run an agent to try things out, or several.
///
/// Everything on loopback with default ports, and nothing left behind: made to try things out. Several agents
/// are nodes n1, n2 … on 127.0.0.1, 127.0.0.2 …, each in a zone of its own, and obey commands on standard
/// input: type `help`.
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Keep the state and the services folder here [default: a temporary folder].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How many agents, which join each other.
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u8).range(1..=i64::from(Seat::MAX_AGENTS)))]
    nodes: u8,
}

pub(crate) async fn dev(args: DevArgs, context: &Context) -> Result<u8> {
    // Live until the agents have stopped; dropping one removes the folder.
    let mut folders = Vec::new();
    let mut temporary = || -> Result<PathBuf> {
        let folder = tempfile::Builder::new().prefix("dunlin-dev-").tempdir();
        let folder = folder.context("no temporary folder could be made")?;
        let path = folder.path().to_owned();
        folders.push(folder);
        Ok(path)
    };
    let data_dir = args.data_dir.map_or_else(&mut temporary, Ok)?;
    if args.nodes == 1 {
        return one(data_dir, context).await;
    }
    let keys = temporary()?;
    several(args.nodes, &data_dir, &keys, context).await
}

async fn one(data_dir: PathBuf, context: &Context) -> Result<u8> {
    let mut config = settings::load(context.config.as_deref())?.config;
    settle_on_loopback(&mut config, data_dir.clone());
    make_folder(&config.providers.dir)?;
    let log = logging::start(&config.log)?;
    let settings = ResolvedConfig::resolve(config)?;
    let read_again = || {
        let mut config = settings::load(context.config.as_deref())?.config;
        settle_on_loopback(&mut config, data_dir.clone());
        Ok(config)
    };
    let welcome = |node: &Node| {
        context.out.raw(welcome::to_one(&node.shared().identity, &program()).as_bytes());
    };
    agent::run_node(settings, None, log, read_again, welcome).await
}

async fn several(nodes: u8, folder: &Path, keys: &Path, context: &Context) -> Result<u8> {
    let config = settings::load(context.config.as_deref())?.config;
    for (key, listen) in [
        ("api.listen", config.api.listen),
        ("dns.listen", config.dns.listen),
        ("cluster.listen", config.cluster.listen),
    ] {
        if listen.port() == 0 {
            let hint = "All agents have the same ports; name one that is free on each address.";
            let message = format!("{key} has port 0, which --nodes cannot use");
            return Err(Failure::wrong_use(message, hint).into());
        }
    }
    let log = logging::start(&config.log)?;
    let tls = certificates::make(keys, nodes)?;
    let mut fleet = Fleet::new(&config, folder, tls, context.out);
    let mut signals = Signals::listen()?;
    for seat in Seat::all(nodes) {
        fleet
            .start(seat)
            .await
            .with_context(|| format!("{seat} on {} does not start", seat.ip()))?;
    }
    let agents: Vec<(Seat, &Identity)> = fleet.running().collect();
    context.out.raw(welcome::to_several(&agents, &program()).as_bytes());
    let read_again = |config: &mut Config| {
        let new = settings::load(context.config.as_deref())?.config;
        agent::apply(config, &new, &log);
        *config = new;
        anyhow::Ok(())
    };
    obey(&mut fleet, config, &mut signals, read_again, context).await?;
    // A second signal to stop ends the agents without waiting.
    let stop_again = async { while signals.next().await != Signal::Stop {} };
    tokio::select! {
        () = fleet.stop_all() => Ok(DONE),
        () = stop_again => Ok(1),
    }
}

/// Does what the console and the system ask for, until they ask for the end.
async fn obey(
    fleet: &mut Fleet,
    mut config: Config,
    signals: &mut Signals,
    read_again: impl Fn(&mut Config) -> Result<()>,
    context: &Context,
) -> Result<()> {
    enum Happened {
        Line(Line),
        Signal(Signal),
    }
    let mut lines = Lines::listen();
    loop {
        let happened = tokio::select! {
            line = lines.next() => Happened::Line(line),
            signal = signals.next() => Happened::Signal(signal),
            seat = fleet.failed() => bail!("the driver of {seat} has ended; this is a bug"),
        };
        match happened {
            Happened::Line(line) => {
                let is_over = tokio::select! {
                    is_over = console::take(line, fleet, context.out) => is_over,
                    () = async { while signals.next().await != Signal::Stop {} } => true,
                };
                if is_over {
                    return Ok(());
                }
            }
            Happened::Signal(Signal::Stop) => return Ok(()),
            Happened::Signal(Signal::Reload) => match read_again(&mut config) {
                Ok(()) => fleet.reload(&config).await,
                Err(error) => {
                    error!("the configuration is not taken, the old one holds: {error:#}");
                }
            },
        }
    }
}

/// The program as it was called, so that a command that is shown works when it is pasted.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "dunlin".to_owned())
}

fn make_folder(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("the services folder {}", dir.display()))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn dev_settings() -> ResolvedConfig {
        let text = "[node]\nname = \"n1\"\naddress = \"10.0.0.5\"\n[api]\nlisten = \"0.0.0.0:5380\"\ninsecure = true\n\
            [dns]\nlisten = \"127.0.0.2:5300\"";
        let mut config = Config::parse(text, "f").unwrap();
        settle_on_loopback(&mut config, "/tmp/d".into());
        ResolvedConfig::resolve(config).unwrap()
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
}
