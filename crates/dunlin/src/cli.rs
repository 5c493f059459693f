//! The command line: all commands, and the options that they have in common.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use dunlin_api::client::Endpoint;

use crate::commands::{
    agent, config, dev, doctor, events, guard, lookup, register, run, state, tls, token, watch,
};
use crate::context::Context;
use crate::credentials::CredentialArgs;
use crate::output::{Format, Printer};

/// Service discovery that keeps telling the truth.
///
/// One agent runs on every host. It learns which instances run there, checks them, and answers where
/// services are: over DNS, over HTTP, and to these commands.
#[derive(Debug, Parser)]
#[command(
    name = "dunlin",
    version,
    after_help = "Exit codes: 0 done, 1 not found or unhealthy, 2 wrong use, 3 agent unreachable.\n\
        Start with: dunlin dev"
)]
pub(crate) struct Cli {
    /// The configuration file [default: ./dunlin.toml, then /etc/dunlin/dunlin.toml, if there].
    #[arg(long, global = true, env = "DUNLIN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// The agent's socket or address [default: agent.sock in the data directory, then the API's address].
    #[arg(long, global = true, env = "DUNLIN_AGENT", value_name = "SOCKET|URL")]
    agent: Option<Endpoint>,

    #[command(flatten)]
    shown: CredentialArgs,

    /// For people or for programs.
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,

    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// The printer of results and messages.
    pub(crate) fn printer(&self) -> Printer {
        Printer::new(self.output)
    }

    /// The context of the command.
    pub(crate) fn context(&self) -> anyhow::Result<Context> {
        Ok(Context {
            out: self.printer(),
            config: self.config.clone(),
            credentials: self.shown.read()?,
            named_agent: self.agent.clone(),
        })
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    // What has arguments is described beside them.
    Agent(agent::AgentArgs),
    Dev(dev::DevArgs),
    /// List all services.
    Services,
    Lookup(lookup::LookupArgs),
    Watch(watch::WatchArgs),
    Register(register::RegisterArgs),
    Deregister(register::DeregisterArgs),
    Run(run::RunArgs),
    /// List what states instances on this host, and what is wrong with it.
    Providers,
    /// List all nodes.
    Nodes,
    Events(events::EventsArgs),
    Drain(state::DrainArgs),
    Maintenance(state::MaintenanceArgs),
    Guard(guard::GuardArgs),
    Config(config::ConfigArgs),
    Tls(tls::TlsArgs),
    Token(token::TokenArgs),
    /// Print completions for a shell.
    Completions {
        /// Which one.
        shell: clap_complete::Shell,
    },
    Doctor(doctor::DoctorArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_use_is_told_at_once_with_exit_code_2() {
        for line in [
            "dunlin",
            "dunlin lokup web",
            "dunlin dev --nodes 0",
            "dunlin dev --nodes 10",
            "dunlin lookup we_b_",
            "dunlin lookup web --zone any",
            "dunlin lookup a.b.c.d.e",
            "dunlin register --service web --port 0",
            "dunlin register --service web --port 65536",
            "dunlin register --service web --port 80 --address localhost",
            "dunlin register --service web --port 80 --check ftp",
            "dunlin register --service web",
            "dunlin register web.toml --service web --port 1",
            "dunlin deregister a/b",
            "dunlin maintenance web-1",
            "dunlin maintenance web-1 --off --reason x",
            "dunlin run --service web -- sleep 1",
            "dunlin run --service web:80",
            "dunlin tls cert create --node web-1",
            "dunlin tls cert create --node a.b --zone z1",
            "dunlin tls ca create --days 0",
            "dunlin token create --name a --scope reed",
            "dunlin token create --scope read",
            "dunlin --agent nowhere services",
            "dunlin --output xml services",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn what_stands_in_the_help_is_accepted() {
        for line in [
            "dunlin lookup http.api.prod.shop --zone eu1 --output json",
            "dunlin watch web db",
            "dunlin dev --nodes 3 --data-dir d",
            "dunlin register --service web --port 80 --check http:/healthz --wait",
            "dunlin register --service web --port 80 --wait=5s",
            "dunlin register -",
            "dunlin run --service web:8080 --env DB=db.prod -- ./server --port 8080",
            "dunlin maintenance web-1 --reason upgrade",
            "dunlin guard release web",
            "dunlin guard",
            "dunlin config check dunlin.toml",
            "dunlin tls ca create --out pki --name shop --days 3650",
            "dunlin tls cert create --node web-1 --zone eu1 --ca a/ca.crt --ca-key a/ca.key --force",
            "dunlin tls cert show web-1.crt",
            "dunlin tls cert create --node web-1 --zone eu1 --host web-1.example.com --host 10.0.0.5",
            "dunlin token create --name deploy --scope register:web --scope read",
            "dunlin --agent https://10.0.0.5:5380 --ca ca.crt services",
            "dunlin events --follow",
            "dunlin --agent http://127.0.0.1:5380 doctor",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }
}
