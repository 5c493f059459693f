//! `dunlin doctor`: looks at this host and says what is wrong and how to mend it. It changes nothing.

mod agent_checks;
mod api_checks;
mod certificate_checks;
mod cluster_checks;
mod host_checks;

use std::time::{Duration, SystemTime};

use anyhow::Result;
use clap::Args;
use dunlin_api::client::Timeouts;
use dunlin_core::config::Config;
use serde::Serialize;

use crate::context::Context;
use crate::failure::{DONE, NOT_FOUND};
use crate::output::Table;
use crate::settings::{self, ResolvedConfig};

/// Find what is wrong on this host and say how to mend it.
///
/// Changes nothing. Ends with exit code 1 when something is wrong; what only might become a problem does not count.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {}

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    Doubtful,
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    found: String,
    /// How to mend it; empty when it is good.
    mend: String,
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Good, found: found.into(), mend: String::new() }
    }

    fn doubtful(what: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Doubtful, found: found.into(), mend: mend.into() }
    }

    fn wrong(what: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { verdict: Verdict::Wrong, ..Self::doubtful(what, found, mend) }
    }
}

pub(crate) async fn doctor(_args: DoctorArgs, context: &Context) -> Result<u8> {
    let findings = examine(context).await;
    if context.out.is_json() {
        context.out.json(&findings);
    } else {
        context.out.line(table(&findings).render());
        for finding in findings.iter().filter(|f| f.verdict != Verdict::Good) {
            context.out.line(format_args!("\n{}: {}", finding.what, finding.mend));
        }
    }
    let is_wrong = findings.iter().any(|f| f.verdict == Verdict::Wrong);
    Ok(if is_wrong { NOT_FOUND } else { DONE })
}

async fn examine(context: &Context) -> Vec<Finding> {
    let (config, mut findings) = match settings::load(context.config.as_deref()) {
        Ok(loaded) => {
            let file = loaded.file.map(|f| f.display().to_string());
            let found = file.unwrap_or_else(|| "no file, defaults and variables".to_owned());
            (loaded.config, vec![Finding::good("configuration", found)])
        }
        Err(error) => {
            let mend = "Correct the file; until then the rest is examined with defaults.";
            let wrong = Finding::wrong("configuration", format!("{error:#}"), mend);
            (Config::default(), vec![wrong])
        }
    };
    let patience = Timeouts {
        connect: Duration::from_secs(2),
        answer: Duration::from_secs(5),
        silence: Duration::from_secs(5),
    };
    let agent = context.agent().with_timeouts(patience);
    let status = agent_checks::status(&agent, &config, &mut findings).await;
    match ResolvedConfig::resolve(config) {
        Ok(settings) => {
            let folders = host_checks::Folders::of(&settings, status.as_ref());
            host_checks::folders(&folders, status.is_some(), &mut findings);
            if status.is_none() {
                host_checks::ports(&settings.config, &mut findings);
            }
            api_checks::access(&settings.config.api, &mut findings);
            if let Some(files) = &settings.config.cluster.tls {
                let (node, zone) = (&settings.node_name, &settings.config.node.zone);
                let now = SystemTime::now();
                findings.push(certificate_checks::certificate(files, node, zone, now));
            }
            agent_checks::dns(&settings.config, status.as_ref(), &mut findings).await;
            if status.is_some() {
                cluster_checks::cluster(&agent, &settings, &mut findings).await;
            }
        }
        Err(error) => {
            let mend = "Give node.name and node.data_dir in the configuration.";
            findings.push(Finding::wrong("settings", format!("{error:#}"), mend));
        }
    }
    if status.is_some() {
        agent_checks::providers(&agent, &mut findings).await;
    }
    host_checks::limits(&mut findings);
    findings
}

fn table(findings: &[Finding]) -> Table {
    let mut table = Table::new(&["", "WHAT", "FOUND"]);
    for f in findings {
        let mark = match f.verdict {
            Verdict::Good => "ok",
            Verdict::Doubtful => "!",
            Verdict::Wrong => "WRONG",
        };
        table.row([mark.to_owned(), f.what.to_owned(), f.found.clone()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_stand_in_a_table() {
        let findings = [
            Finding::good("agent", "node n1, up 5s"),
            Finding::wrong("DNS", "no answer", "Look at the log."),
        ];
        assert_eq!(
            table(&findings).render(),
            "       WHAT   FOUND\nok     agent  node n1, up 5s\nWRONG  DNS    no answer"
        );
    }
}
