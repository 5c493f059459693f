//! A server's process with its children: started, pinned to processors, measured, ended.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::run::Cmd;

const STOPPED_WITHIN: Duration = Duration::from_secs(10);
const IDLE_FOR: Duration = Duration::from_millis(500);
const IDLE_WITHIN: Duration = Duration::from_secs(60);

/// A running server. Dropped, it is ended with all its children.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a program on certain processors; what it says goes to a file. It does not outlive this program.
    pub(crate) fn start(cores: &str, log: &Path, program: &str, args: &[&str]) -> Result<Self> {
        let prefix = ["--pdeathsig", "KILL", "--", "taskset", "-c", cores, program];
        let command = Cmd::new("setpriv", prefix.into_iter().chain(args.iter().copied()));
        let mut process = command.command();
        let log = fs::File::create(log)?;
        process.stdout(log.try_clone()?).stderr(log);
        let child = process.spawn().with_context(|| format!("cannot start {command}"))?;
        Ok(Self { child })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Those that fork end their children when they are asked to end, not when they are killed.
        let family = family(self.pid());
        signal("-TERM", &[self.pid()]);
        let deadline = Instant::now() + STOPPED_WITHIN;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(5));
        }
        let left: Vec<u32> = family.into_iter().filter(|pid| is_running(*pid)).collect();
        signal("-KILL", &left);
        // It has ended, or was just killed.
        let _ = self.child.wait();
    }
}

fn is_running(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn signal(name: &str, pids: &[u32]) {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    if !pids.is_empty() {
        // Who has ended meanwhile needs no signal.
        let args = [name].into_iter().chain(pids.iter().map(String::as_str));
        let _ = Cmd::new("kill", args).command().stderr(Stdio::null()).status();
    }
}

/// Moves a process with all its threads to certain processors.
pub(crate) fn pin(pid: u32, cores: &str) -> Result<()> {
    Cmd::new("taskset", ["-a", "-c", "-p", cores, &pid.to_string()]).output().map(drop)
}

/// A process and all that descend from it.
fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        for thread in threads(*pid) {
            let children = fs::read_to_string(format!("{thread}/children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        at += 1;
    }
    found
}

/// The folders of a process's threads.
fn threads(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().to_string_lossy().into_owned()).collect()
}

/// Processor time that a process and its children have used, to some milliseconds.
pub(crate) fn processor_time(pid: u32) -> Result<Duration> {
    let mut nanos = 0;
    for thread in family(pid).into_iter().flat_map(threads) {
        // A thread may have ended since it was listed.
        let text = fs::read_to_string(format!("{thread}/schedstat")).unwrap_or_default();
        nanos += text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(Duration::from_nanos(nanos))
}

/// Waits, not without end, until a process and its children have nothing to do.
pub(crate) fn wait_until_idle(pid: u32) -> Result<()> {
    let deadline = Instant::now() + IDLE_WITHIN;
    let mut before = processor_time(pid)?;
    while Instant::now() < deadline {
        thread::sleep(IDLE_FOR);
        let now = processor_time(pid)?;
        // The time of a thread that has ended is not counted any more.
        if now.checked_sub(before).is_some_and(|used| used < IDLE_FOR / 50) {
            return Ok(());
        }
        before = now;
    }
    println!("process {pid} is still at work {IDLE_WITHIN:?} after what it was given to do");
    Ok(())
}

/// Resident octets of a process; of several that share memory, each page counts once.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let family = family(pid);
    let field = if family.len() == 1 { "Rss:" } else { "Pss:" };
    let mut octets = 0;
    for pid in family {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.split_whitespace().next()).context("no such field")?;
        octets += kib.parse::<u64>()? * 1024;
    }
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_process_is_measured() {
        let own = std::process::id();
        assert!(family(own).contains(&own));
        assert!(processor_time(own).unwrap() > Duration::ZERO);
        assert!(resident(own).unwrap() > 1 << 20);
    }
}
