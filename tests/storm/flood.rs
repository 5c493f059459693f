//! dnsperf at full speed against one agent.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::stage::Stage;
use crate::peers;
use crate::run::Cmd;

/// How long it may take to end and to say what it did.
const ENDS_WITHIN: Duration = Duration::from_secs(15);
/// Questions that are open at a time: fewer than the agent's sockets hold, so that it never has to drop any.
const OUTSTANDING: &str = "200";
/// Seconds that no storm lasts. Without them it would end with its list of questions.
const ENDLESS: &str = "1000000";

/// A running dnsperf, which is started anew when it gives up.
pub(super) struct Flood {
    command: Box<dyn Fn() -> Command>,
    questions: PathBuf,
    log: PathBuf,
    child: Child,
    started: u32,
}

impl Flood {
    /// Says how to get dnsperf where it is missing.
    pub(super) fn is_possible() -> Result<()> {
        if !peers::is_installed("dnsperf") {
            bail!("dnsperf is missing; to install it, as root: apt-get install dnsperf");
        }
        Ok(())
    }

    /// Starts it, by what `command` gives for a program's name.
    pub(super) fn start(
        stage: &Stage,
        agent: usize,
        dir: &Path,
        command: impl Fn(&str) -> Command + 'static,
    ) -> Result<Self> {
        let questions = dir.join("questions");
        let names = stage.ledger.services.iter().map(|service| &service.name);
        let lines = names.map(|name| {
            format!("{name}.dunlin.internal A\n{name}.dunlin.internal SRV\nno-{name}.dunlin.internal A\n")
        });
        fs::write(&questions, lines.collect::<String>())?;
        let address = stage.posts[agent].dns;
        let command = move || {
            let mut command = command("dnsperf");
            let (ip, port) = (address.ip().to_string(), address.port().to_string());
            command.args([
                "-s",
                &ip,
                "-p",
                &port,
                "-c",
                "4",
                "-q",
                OUTSTANDING,
                "-t",
                "2",
                "-e",
                "-l",
                ENDLESS,
            ]);
            command.stdin(Stdio::null());
            command
        };
        let log = dir.join("dnsperf.log");
        let child = spawn(command(), &questions, &log)?;
        Ok(Self { command: Box::new(command), questions, log, child, started: 1 })
    }

    /// Starts it again if it has ended.
    pub(super) fn tend(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            self.child = spawn((self.command)(), &self.questions, &self.log)?;
            self.started += 1;
        }
        Ok(())
    }

    /// Ends it. Returns the questions that were answered, how many a second, and how often it was started.
    pub(super) fn stop(mut self) -> Result<(u64, f64, u32)> {
        Cmd::new("kill", ["-INT", &self.child.id().to_string()]).run()?;
        let deadline = Instant::now() + ENDS_WITHIN;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("dnsperf did not end within {ENDS_WITHIN:?}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        let log = fs::read_to_string(&self.log)?;
        let completed = sum(&log, "Queries completed:");
        let seconds = sum(&log, "Run time (s):").max(f64::EPSILON);
        Ok((completed as u64, completed / seconds, self.started))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        // It has ended, or is not wanted any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(mut command: Command, questions: &Path, log: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    command.arg("-d").arg(questions);
    command.stdout(log.try_clone()?).stderr(log);
    command.spawn().context("cannot start dnsperf")
}

/// The sum of the first numbers on lines that begin so.
fn sum(log: &str, name: &str) -> f64 {
    let lines = log.lines().filter_map(|line| line.trim_start().strip_prefix(name));
    lines.filter_map(|rest| rest.split_whitespace().next()?.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_several_runs_did_is_added_up() {
        let log = "  Queries sent:  9\n  Queries completed:    7 (99.97%)\nx\n  Queries completed:    5 (1%)\n";
        assert!((super::sum(log, "Queries completed:") - 12.0).abs() < 0.1);
    }
}
