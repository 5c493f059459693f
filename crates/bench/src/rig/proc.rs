//! What Linux tells of a process and of the loopback device.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// Parts of a second in which Linux counts processor time for user space, on all its platforms.
const TICKS: u64 = 100;

/// Octets of anonymous memory that are resident.
pub(crate) fn anonymous_memory(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no RssAnon")?;
    Ok(kib.parse::<u64>()? * 1024)
}

/// Processor time that was used so far, in user space and in the kernel.
pub(crate) fn processor_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_processor_time(&stat).with_context(|| format!("cannot read the times in {stat:?}"))
}

fn parse_processor_time(stat: &str) -> Option<Duration> {
    // The name before may hold spaces; utime and stime are fields 14 and 15 (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS))
}

/// Files and sockets that a process has open.
pub(crate) fn descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Threads of a process.
pub(crate) fn threads(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/task"))?.count())
}

/// Octets that went over the loopback device of this process's network namespace, IP headers included.
pub(crate) fn loopback_octets() -> Result<u64> {
    let devices = fs::read_to_string("/proc/net/dev")?;
    let line = devices.lines().find_map(|line| line.trim_start().strip_prefix("lo:"));
    let received = line.and_then(|line| line.split_whitespace().next()).context("no lo")?;
    Ok(received.parse()?)
}

/// Octets that the database in a data directory takes on the disk.
pub(crate) fn disk_octets(data_dir: &Path) -> Result<u64> {
    let mut octets = 0;
    for entry in fs::read_dir(data_dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("catalog.db") {
            octets += entry.metadata()?.blocks() * 512;
        }
    }
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194304 10 0 0 0 150 25 0 0 20 0 1 0 99 0 0";
        assert_eq!(parse_processor_time(stat), Some(Duration::from_millis(1750)));
    }
}
