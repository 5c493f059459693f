//! `dunlin agent` and `dunlin dev`: from the command line to a running agent.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use dunlin_core::config::Config;
use tempfile::TempDir;

use crate::access::SOCKET_NAME;
use crate::cli::Context;
use crate::logging::{self, LogHandle};
use crate::settings::{self, Settings};

/// Run the agent of this host.
///
/// Runs until SIGTERM or SIGINT. SIGHUP reads the configuration again, applies what can be applied and
/// says what needs a restart.
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {}

/// Run an agent to try things out: on loopback, with its state in a temporary folder.
///
/// Listens on the configured ports, on loopback alone, and leaves nothing behind.
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
    run_node(settings, log, None).await
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
    settle_on_loopback(&mut config, data_dir);
    std::fs::create_dir_all(&config.providers.dir)
        .with_context(|| format!("the services folder {}", config.providers.dir.display()))?;
    let log = logging::start(&config.log)?;
    let settings = Settings::resolve(config)?;
    let welcome = welcome(&settings);
    let code = run_node(settings, log, Some(&|| context.out.line(&welcome))).await;
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

/// THE SEAM to `dunlin_agent::Node`: starts the agent with these settings, calls `ready` once it
/// listens, and returns the exit code when a signal has stopped it.
async fn run_node(
    settings: Settings,
    log: LogHandle,
    ready: Option<&(dyn Fn() + Sync)>,
) -> Result<u8> {
    let _ = (log, ready);
    std::future::ready(()).await;
    bail!("the agent of node {} is not part of this build", settings.node_name)
}

fn welcome(settings: &Settings) -> String {
    let Config { api, dns, providers, .. } = &settings.config;
    let (api, dns_at, domain) = (api.listen, dns.listen, &dns.domain);
    let socket = settings.data_dir.join(SOCKET_NAME);
    let socket = socket.display();
    let program = program(api);
    let dig = format!("dig @{} -p {} web.{domain} SRV", dns_at.ip(), dns_at.port());
    format!(
        "Dunlin is up as node {} in zone {}.\n\
         \n  API       http://{api}\n  DNS       {dns_at}, UDP and TCP\n  socket    {socket}\n  \
         services  {}\n\n\
         Try, in another terminal:\n  \
         {program} run --service web:8080 --check http:/ -- python3 -m http.server 8080\n  \
         {program} lookup web\n  \
         {dig}\n\nCtrl-C stops it.",
        settings.node_name,
        settings.config.node.zone,
        providers.dir.display(),
    )
}

/// How to call this program so that it finds the agent that listens there.
fn program(api: SocketAddr) -> String {
    let name = std::env::args().next().filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| "dunlin".to_owned());
    if api == Config::default().api.listen {
        return name;
    }
    format!("{name} --agent http://{api}")
}

#[cfg(test)]
mod tests {
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
        let text = welcome(&dev_settings());
        for part in [
            "node n1 in zone z1",
            "API       http://127.0.0.1:5380",
            "DNS       127.0.0.2:5300",
            "socket    /tmp/d/agent.sock",
            "services  /tmp/d/services.d",
            "lookup web",
            "dig @127.0.0.2 -p 5300 web.dunlin.internal SRV",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
