//! What Linux reports about processes (processor time, memory, descriptors, threads) and about the loopback device.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The ticks of a second in which Linux reports processor time to user space, on all its platforms.
const TICKS: u64 = 100;
/// A process is idle if it uses less than a fiftieth of an interval of this length.
const IDLE_INTERVAL: Duration = Duration::from_millis(500);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A process and all its descendants; the process comes first.
pub fn family(pid: u32) -> Vec<u32> {
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

/// Processor time that a process and its descendants have used, in user space and in the kernel.
///
/// The time of threads that live is exact. A process whose threads have ended is counted in hundredths of a second.
pub fn processor_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let mut time = time_in(&stat).with_context(|| format!("cannot read the times in {stat:?}"))?;
    time = time.max(time_of_threads(pid));
    for child in family(pid).into_iter().skip(1) {
        // A child may have ended since it was listed.
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        time += time_in(&stat).unwrap_or_default().max(time_of_threads(child));
    }
    Ok(time)
}

/// The time of a whole process, threads that have ended included (proc(5), `/proc/[pid]/stat`).
fn time_in(stat: &str) -> Option<Duration> {
    // The name before may hold spaces; utime and stime are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS))
}

/// The time of the threads that live, to the nanosecond.
fn time_of_threads(pid: u32) -> Duration {
    let nanos = threads(pid).into_iter().filter_map(|thread| {
        // A thread may have ended since it was listed.
        let text = fs::read_to_string(format!("{thread}/schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// Waits until a process and its descendants are idle. If they are not after a minute, prints that and returns all the same.
pub fn wait_until_idle(pid: u32) -> Result<()> {
    let deadline = Instant::now() + IDLE_TIMEOUT;
    let mut before = processor_time(pid)?;
    while Instant::now() < deadline {
        thread::sleep(IDLE_INTERVAL);
        let now = processor_time(pid)?;
        // The time of a descendant that has ended is not counted any more.
        if now.checked_sub(before).is_some_and(|used| used < IDLE_INTERVAL / 50) {
            return Ok(());
        }
        before = now;
    }
    println!("process {pid} is still at work {IDLE_TIMEOUT:?} after what it was given to do");
    Ok(())
}

/// Resident octets of a process and its descendants; of several that share memory, each page counts once.
pub fn resident(pid: u32) -> Result<u64> {
    let family = family(pid);
    let name = if family.len() == 1 { "Rss:" } else { "Pss:" };
    let mut octets = 0;
    for pid in family {
        octets += field(&format!("/proc/{pid}/smaps_rollup"), name)?;
    }
    Ok(octets)
}

/// Anonymous memory: resident octets that no file backs.
pub fn anonymous_memory(pid: u32) -> Result<u64> {
    field(&format!("/proc/{pid}/status"), "RssAnon:")
}

/// A field of a file in which Linux counts memory in KiB, in octets.
fn field(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib = kib.with_context(|| format!("{path} has no {name}"))?;
    Ok(kib.parse::<u64>()? * 1024)
}

/// Files and sockets that a process has open.
pub fn descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// How many threads a process has.
pub fn thread_count(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/task"))?.count())
}

/// Octets that went over the loopback device of this process's network namespace, IP headers included.
pub fn loopback_octets() -> Result<u64> {
    let devices = fs::read_to_string("/proc/net/dev")?;
    let line = devices.lines().find_map(|line| line.trim_start().strip_prefix("lo:"));
    let received = line.and_then(|line| line.split_whitespace().next()).context("no lo")?;
    Ok(received.parse()?)
}

/// Octets that the database in an agent's data directory takes on the disk.
pub fn disk_octets(data_dir: &Path) -> Result<u64> {
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
        assert_eq!(time_in(stat), Some(Duration::from_millis(1750)));
    }

    #[test]
    fn the_own_process_is_measured() {
        let own = std::process::id();
        assert_eq!(family(own).first(), Some(&own));
        assert!(processor_time(own).unwrap() > Duration::ZERO);
        assert!(resident(own).unwrap() > 1 << 20);
        assert!(anonymous_memory(own).unwrap() > 0);
        assert!(thread_count(own).unwrap() > 0 && descriptors(own).unwrap() > 0);
    }

    #[test]
    fn the_time_of_threads_that_have_ended_counts() {
        let spin = || {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(100) {
                std::hint::spin_loop();
            }
            time_of_threads(std::process::id())
        };
        let own = std::process::id();
        let before = processor_time(own).unwrap();
        let while_it_lived = thread::spawn(spin).join().unwrap();
        let after = processor_time(own).unwrap();
        // To the hundredth of a second that the system counts in, for user space and for the kernel.
        assert!(
            after + Duration::from_millis(20) >= while_it_lived,
            "{after:?} {while_it_lived:?}"
        );
        assert!(after >= before);
    }
}
