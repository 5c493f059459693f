//! What can be seen without an agent: folders, ports, limits, the clock.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dunlin_api::AgentStatus;
use dunlin_core::config::Config;

use super::Finding;
use crate::access::SOCKET_NAME;
use crate::machine;
use crate::settings::ResolvedConfig;

/// With less than this free, the agent may soon be unable to keep what it acknowledges.
const MIN_FREE_OCTETS: u64 = 200 * 1024 * 1024;
/// Open files an agent needs with some hundred watches, checks and connections.
const MIN_OPEN_FILES: u64 = 4096;
/// Inotify watches that should be left for a user.
const MIN_WATCHES: u64 = 128;
/// The earliest time that a correct clock shows: this program was written after 2026-01-01.
const MIN_TIME: Duration = Duration::from_secs(1_767_225_600);

/// The folders an agent uses: the running one's, else those of the configuration.
pub(super) struct Folders {
    data_dir: PathBuf,
    services_dir: PathBuf,
}

impl Folders {
    pub(super) fn of(settings: &ResolvedConfig, status: Option<&AgentStatus>) -> Self {
        let running = status.map(|s| (s.data_dir.clone().into(), s.services_dir.clone().into()));
        let configured = || (settings.data_dir.clone(), settings.config.providers.dir.clone());
        let (data_dir, services_dir) = running.unwrap_or_else(configured);
        Self { data_dir, services_dir }
    }
}

pub(super) fn folders(folders: &Folders, is_running: bool, findings: &mut Vec<Finding>) {
    findings.push(data_dir(&folders.data_dir));
    findings.extend(space(&folders.data_dir));
    findings.extend(socket(&folders.data_dir.join(SOCKET_NAME), is_running));
    findings.push(services_dir(&folders.services_dir));
}

fn data_dir(dir: &Path) -> Finding {
    let what = "data directory";
    let shown = dir.display();
    match fs::metadata(dir) {
        Ok(found) if !found.is_dir() => Finding::wrong(
            what,
            format!("{shown} is not a directory"),
            "Move it away, or set node.data_dir.",
        ),
        Ok(_) => match tempfile::tempfile_in(dir) {
            Ok(_) => Finding::good(what, format!("{shown} can be written")),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => Finding::doubtful(
                what,
                format!("{shown} cannot be written by this user"),
                "Good if the agent runs as another user; else change the directory's owner.",
            ),
            Err(e) => Finding::wrong(
                what,
                format!("{shown} cannot be written: {e}"),
                "Make room, or mount the file system writable.",
            ),
        },
        Err(e) if e.kind() == ErrorKind::NotFound => {
            Finding::good(what, format!("{shown} is not there yet; the agent makes it"))
        }
        Err(e) => Finding::wrong(
            what,
            format!("{shown}: {e}"),
            "Let this user and the agent's reach the directory, or set node.data_dir.",
        ),
    }
}

fn space(dir: &Path) -> Option<Finding> {
    let what = "disk space";
    let there = dir.ancestors().find(|d| d.exists())?;
    let free = machine::free_octets(there).ok()?;
    let found = format!("{} MiB free for {}", free / (1024 * 1024), dir.display());
    if free < MIN_FREE_OCTETS {
        let mend = "Make room: without it, registrations are refused.";
        return Some(Finding::wrong(what, found, mend));
    }
    Some(Finding::good(what, found))
}

fn socket(path: &Path, is_running: bool) -> Option<Finding> {
    let what = "local socket";
    let shown = path.display();
    let mode = match fs::metadata(path) {
        Ok(found) => found.permissions().mode() & 0o777,
        Err(e) if is_running => {
            let mend = "Restart the agent, or give its data directory with --config.";
            return Some(Finding::wrong(what, format!("{shown}: {e}"), mend));
        }
        Err(_) => return None,
    };
    if mode & 0o002 != 0 {
        let mend =
            format!("Every user of this host can change what it announces: chmod o-w {shown}");
        return Some(Finding::doubtful(what, format!("{shown} has mode {mode:o}"), mend));
    }
    Some(Finding::good(what, format!("{shown}, mode {mode:o}")))
}

fn services_dir(dir: &Path) -> Finding {
    let what = "services folder";
    let shown = dir.display();
    match fs::read_dir(dir) {
        Ok(entries) => {
            let is_ours =
                |name: &Path| name.extension().is_some_and(|e| e == "toml" || e == "json");
            let files = entries.flatten().filter(|e| is_ours(&e.path())).count();
            Finding::good(what, format!("{shown}, {files} files"))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Finding::doubtful(
            what,
            format!("{shown} is not there"),
            format!("Files put there announce services: mkdir -p {shown}"),
        ),
        Err(e) => Finding::wrong(
            what,
            format!("{shown} cannot be read: {e}"),
            "Let the agent's user read it, or set providers.dir.",
        ),
    }
}

/// While no agent runs, whether one could listen.
pub(super) fn ports(config: &Config, findings: &mut Vec<Finding>) {
    let tcp = |at: SocketAddr| TcpListener::bind(at).map(|_| ());
    let udp = |at: SocketAddr| UdpSocket::bind(at).map(|_| ());
    findings.push(port("API port", "api.listen", config.api.listen, tcp));
    let both = |at| tcp(at).and_then(|()| udp(at));
    if config.cluster.tls.is_some() {
        findings.push(port("cluster port", "cluster.listen", config.cluster.listen, both));
    }
    if config.dns.enabled {
        findings.push(port("DNS port", "dns.listen", config.dns.listen, both));
    }
}

fn port(
    what: &'static str,
    key: &str,
    at: SocketAddr,
    bind: impl Fn(SocketAddr) -> std::io::Result<()>,
) -> Finding {
    let Err(error) = bind(at) else {
        return Finding::good(what, format!("{at} is free"));
    };
    let port = at.port();
    let is = |kind| error.kind() == kind;
    let mend = if is(ErrorKind::AddrInUse) {
        format!("See who has it with `ss -lntup sport = :{port}`, end that, or set {key}.")
    } else if is(ErrorKind::PermissionDenied) {
        format!("Ports below 1024 need root or CAP_NET_BIND_SERVICE; or set {key}.")
    } else {
        format!("Set {key} to an address of this host.")
    };
    Finding::wrong(what, format!("{at}: {error}"), mend)
}

pub(super) fn limits(findings: &mut Vec<Finding>) {
    findings.push(clock(SystemTime::now()));
    findings.push(open_files(machine::open_files_limit()));
    let watches = fs::read_to_string("/proc/sys/fs/inotify/max_user_watches");
    let watches = watches.ok().and_then(|text| text.trim().parse().ok());
    findings.extend(watches.map(inotify));
}

fn clock(now: SystemTime) -> Finding {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let shown = dunlin_core::model::Timestamp::from_system(now);
    if since < MIN_TIME {
        let mend = "Set the clock, for instance with chrony: times in events and logs are wrong.";
        return Finding::doubtful("clock", format!("shows {shown}"), mend);
    }
    Finding::good("clock", shown.to_string())
}

fn open_files(limit: u64) -> Finding {
    let found = format!("{limit} open files allowed");
    if limit < MIN_OPEN_FILES {
        let mend = format!("Raise it: `ulimit -n {MIN_OPEN_FILES}`, or LimitNOFILE= in the unit.");
        return Finding::doubtful("file limit", found, mend);
    }
    Finding::good("file limit", found)
}

fn inotify(watches: u64) -> Finding {
    let found = format!("{watches} inotify watches per user");
    if watches < MIN_WATCHES {
        let mend = "Raise fs.inotify.max_user_watches; until then changed files are seen later, by polling.";
        return Finding::doubtful("file watches", found, mend);
    }
    Finding::good("file watches", found)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn folders_are_judged_by_what_can_be_done_with_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(data_dir(folder.path()).verdict, Verdict::Good);
        assert_eq!(data_dir(&folder.path().join("new")).verdict, Verdict::Good);
        assert_eq!(data_dir(&file).verdict, Verdict::Wrong);
        assert_eq!(data_dir(&file.join("in")).verdict, Verdict::Wrong);
        assert_eq!(services_dir(&folder.path().join("none")).verdict, Verdict::Doubtful);
        assert_eq!(services_dir(&file).verdict, Verdict::Wrong);
        fs::write(folder.path().join("a.toml"), "").unwrap();
        assert!(services_dir(folder.path()).found.ends_with(", 1 files"));
    }

    #[test]
    fn a_port_that_somebody_has_is_wrong_and_says_how_to_find_out_who() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = Config::default();
        config.api.listen = taken.local_addr().unwrap();
        config.dns.enabled = false;
        let mut findings = Vec::new();
        ports(&config, &mut findings);
        assert_eq!(findings[0].verdict, Verdict::Wrong);
        assert!(findings[0].mend.contains("ss -lntup"), "{findings:?}");
        assert_eq!(findings.len(), 1);
    }

    #[test]
    fn a_socket_that_all_may_write_is_doubtful() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SOCKET_NAME);
        assert!(socket(&path, false).is_none());
        assert_eq!(socket(&path, true).unwrap().verdict, Verdict::Wrong);
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        for (mode, verdict) in [(0o600, Verdict::Good), (0o666, Verdict::Doubtful)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(socket(&path, true).unwrap().verdict, verdict);
        }
    }

    #[test]
    fn limits_have_a_least_value() {
        assert_eq!(open_files(256).verdict, Verdict::Doubtful);
        assert_eq!(open_files(65_536).verdict, Verdict::Good);
        assert_eq!(inotify(8).verdict, Verdict::Doubtful);
        assert_eq!(inotify(65_536).verdict, Verdict::Good);
        assert_eq!(clock(SystemTime::UNIX_EPOCH).verdict, Verdict::Doubtful);
        let later = SystemTime::UNIX_EPOCH + MIN_TIME;
        assert_eq!(clock(later).verdict, Verdict::Good);
    }
}
