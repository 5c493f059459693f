//! A process that this program has started and that does not outlive it.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::processors::Processors;
use super::program::command;
use super::usage::family;
use super::wait::wait_within;

const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A running process. When it is dropped, it is killed; a server that forks is ended with all its children.
pub struct Process {
    child: Child,
    forks: bool,
}

impl Process {
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child, forks: false })
    }

    /// Starts a server on certain processors. What it prints goes to a file.
    ///
    /// # Errors
    /// If it cannot be started, or the file cannot be created.
    pub fn serve(
        processors: Processors,
        log: &Path,
        program: &str,
        args: &[String],
    ) -> Result<Self> {
        let prefix = ["--pdeathsig", "KILL", "--", "taskset", "-c", processors.list(), program];
        let args = prefix.into_iter().chain(args.iter().map(String::as_str));
        let log = File::create(log)?;
        let mut command = command("setpriv", args);
        command.stdout(log.try_clone()?).stderr(log);
        let mut process = Self::spawn(&mut command)?;
        process.forks = true;
        Ok(process)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process.
    ///
    /// # Errors
    /// If the process has ended and was waited for.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let name = || format!("{signal:?} was not sent");
        kill_process(Pid::from_child(&self.child), signal).with_context(name)
    }

    /// Kills the process, which can do nothing more before it ends.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks the process to end and waits until it has.
    ///
    /// # Errors
    /// If it is still there after `timeout`.
    pub fn stop(&mut self, timeout: Duration) -> Result<ExitStatus> {
        self.stop_by(Signal::TERM, timeout)
    }

    /// As [`Process::stop`], by a signal of the caller's choice.
    pub fn stop_by(&mut self, signal: Signal, timeout: Duration) -> Result<ExitStatus> {
        self.signal(signal)?;
        let mut status = None;
        wait_within("a process to end", timeout, POLL_INTERVAL, || {
            status = self.ended()?;
            Ok(status.is_some())
        })?;
        status.context("the process has ended")
    }

    /// How the process has ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot ask whether a process still runs")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Each of these calls fails for a process that has ended already, and then there is nothing to do.
        if self.forks {
            // A server that forks ends its children when it is asked to end, but not when it is killed.
            let children = family(self.pid());
            let _ = self.stop(STOP_TIMEOUT);
            for child in children.into_iter().skip(1) {
                let pid = i32::try_from(child).ok().and_then(Pid::from_raw);
                let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
