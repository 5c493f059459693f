//! What the agent writes to standard error.

use anyhow::{Context as _, Result, anyhow};
use dunlin_core::config::{LogConfig, LogFormat};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// Changes what is written while the agent runs.
#[derive(Debug, Clone)]
pub(crate) struct LogHandle(reload::Handle<EnvFilter, Registry>);

impl LogHandle {
    /// Takes over `log.filter` of a new configuration.
    pub(crate) fn set_filter(&self, filter: &str) -> Result<()> {
        self.0.reload(parse(filter)?).context("the log filter could not be replaced")
    }
}

/// Starts the log; called once.
pub(crate) fn start(log: &LogConfig) -> Result<LogHandle> {
    let (filter, handle) = reload::Layer::new(parse(&log.filter)?);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Json => registry.with(lines.json()).try_init(),
        LogFormat::Text => {
            let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            registry.with(lines.with_ansi(is_terminal)).try_init()
        }
    };
    started.map_err(|e| anyhow!("the log could not be started: {e}"))?;
    Ok(LogHandle(handle))
}

/// Whether the settings can be used.
pub(crate) fn check(log: &LogConfig) -> Result<()> {
    parse(&log.filter).map(|_| ())
}

fn parse(filter: &str) -> Result<EnvFilter> {
    EnvFilter::try_new(filter).with_context(|| {
        format!("log.filter {filter:?} is not a filter like \"info\" or \"info,dunlin_agent::dns=debug\"")
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_filter_is_checked_before_it_is_used() {
        assert!(super::parse("info,dunlin_agent::dns=debug").is_ok());
        let error = format!("{:#}", super::parse("info,a=loud").unwrap_err());
        assert!(error.contains("log.filter \"info,a=loud\""), "{error}");
    }
}
