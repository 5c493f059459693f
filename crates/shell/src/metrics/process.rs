//! What the kernel knows of this process (proc(5)); a value that cannot be read is left out.

use std::fs;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::registry::Unit;

use super::{Collect, Metric, Sink};

/// `USER_HZ`, the unit in which the kernel shows processor time: it is 100 on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Process {
    started: Instant,
    started_at: SystemTime,
}

impl Process {
    /// Takes the process as started now.
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), started_at: SystemTime::now() }
    }
}

impl Collect for Process {
    fn collect(&self, sink: &mut Sink<'_>) {
        let start = self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let start_time = Metric::gauge("process_start_time", "When it started, since 1970");
        sink.value(&start_time.with_unit(Unit::Seconds), start.as_secs_f64());
        let uptime = Metric::gauge("process_uptime", "How long it has run");
        sink.value(&uptime.with_unit(Unit::Seconds), self.started.elapsed().as_secs_f64());
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            let memory = Metric::gauge("process_resident_memory", "Memory it has in RAM");
            if let Some(kib) = field(&status, "VmRSS:") {
                sink.value(&memory.with_unit(Unit::Bytes), kib * 1024.0);
            }
            if let Some(threads) = field(&status, "Threads:") {
                sink.value(&Metric::gauge("process_threads", "Its threads"), threads);
            }
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            let count = u32::try_from(open.count()).unwrap_or(u32::MAX);
            sink.value(&Metric::gauge("process_open_fds", "Its open files"), count.into());
        }
        if let Some(ticks) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(ticks) {
            let processor = Metric::counter("process_cpu", "Processor time it has used");
            sink.value(&processor.with_unit(Unit::Seconds), ticks / TICKS_PER_SECOND);
        }
    }
}

/// The number after a field's name in `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time of `/proc/self/stat`: fields 14 and 15. The second field is a name in
/// parentheses that may hold anything, so counting begins after its end.
fn ticks(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_a_strange_name() {
        let stat = "12 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 70 30 0 0 20 0 4 0 100";
        assert_eq!(ticks(stat), Some(100.0));
        assert_eq!(ticks("nonsense"), None);
        assert_eq!(field("Name:\tx\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2048.0));
    }
}
