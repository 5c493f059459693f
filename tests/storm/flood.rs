//! dnsperf at full speed against one agent.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};
use dunlin_bench::rig::process::Process;
use dunlin_bench::rig::program::command;
use rustix::process::Signal;

use super::stage::Stage;

/// How long dnsperf may take to end and to print its figures.
const END_TIMEOUT: Duration = Duration::from_secs(15);
/// The questions that are open at a time: fewer than the agent's sockets hold, so that none is dropped.
const MAX_OPEN: u32 = 200;
/// The limit in seconds, which is longer than any storm. Without a limit dnsperf would end with its list of questions.
const MAX_SECONDS: u32 = 1_000_000;

/// A running dnsperf, which is started again when it ends by itself.
pub(super) struct Flood {
    command: Box<dyn Fn() -> Command>,
    questions: PathBuf,
    log: PathBuf,
    process: Process,
    started: u32,
}

impl Flood {
    /// Fails where dnsperf is missing; the error says how to install it.
    pub(super) fn is_possible() -> Result<()> {
        if command("dnsperf", ["-h"]).output().is_err() {
            bail!("dnsperf is missing; to install it, as root: apt-get install dnsperf");
        }
        Ok(())
    }

    /// Starts dnsperf by the command that `command` makes of a program's name.
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
            let (ip, port) = (address.ip(), address.port());
            let args = format!("-s {ip} -p {port} -c 4 -q {MAX_OPEN} -t 2 -e -l {MAX_SECONDS}");
            command.args(args.split(' '));
            command.stdin(Stdio::null());
            command
        };
        let log = dir.join("dnsperf.log");
        let process = spawn(command(), &questions, &log)?;
        Ok(Self { command: Box::new(command), questions, log, process, started: 1 })
    }

    /// Starts it again if it has ended.
    pub(super) fn tend(&mut self) -> Result<()> {
        if self.process.ended()?.is_some() {
            self.process = spawn((self.command)(), &self.questions, &self.log)?;
            self.started += 1;
        }
        Ok(())
    }

    /// Ends it. Returns how many questions were answered, how many in a second, and how often it was started.
    pub(super) fn stop(mut self) -> Result<(u64, f64, u32)> {
        // dnsperf prints its figures when it is interrupted.
        self.process.stop_by(Signal::INT, END_TIMEOUT)?;
        let log = fs::read_to_string(&self.log)?;
        let completed = sum(&log, "Queries completed:");
        let seconds = sum(&log, "Run time (s):").max(f64::EPSILON);
        Ok((completed as u64, completed / seconds, self.started))
    }
}

fn spawn(mut command: Command, questions: &Path, log: &Path) -> Result<Process> {
    let log = File::options().create(true).append(true).open(log)?;
    command.arg("-d").arg(questions);
    command.stdout(log.try_clone()?).stderr(log);
    Process::spawn(&mut command)
}

/// The sum of the first numbers on lines that begin with `name`.
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
