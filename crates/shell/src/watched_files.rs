//! Files that are read again when they change: certificates, tokens.
//!
//! Watched are the folders, since files are renamed into their place or reached through links that change,
//! and beside that a slow poll, since inotify does not see every file system.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Time between polls.
const POLL_INTERVAL: Duration = Duration::from_secs(30);
/// Time between the first sign of a change and the reading: files that belong together come one after another.
const SETTLE_TIME: Duration = Duration::from_millis(100);
/// The largest file that is read.
const MAX_FILE_OCTETS: u64 = 1 << 20;

/// Reads a file of at most 1 MiB; with its permissions, e.g. `0o600`.
pub(crate) fn read(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    // Asked before it is opened: opening a FIFO would wait for its writer.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("is not a file"));
    }
    let mut octets = Vec::new();
    File::open(path)?.take(MAX_FILE_OCTETS + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > MAX_FILE_OCTETS {
        return Err(io::Error::other("is larger than 1 MiB"));
    }
    Ok((octets, metadata.mode() & 0o777))
}

/// Says that files should be looked at, whatever the system tells of them.
#[derive(Debug, Clone)]
pub(crate) struct Nudge(mpsc::Sender<()>);

impl Nudge {
    pub(crate) fn now(&self) {
        // A full queue means that a reading is due already; a closed one that all ends.
        let _ = self.0.try_send(());
    }
}

/// Waits for some files to change.
#[derive(Debug)]
pub(crate) struct Watched {
    files: Vec<PathBuf>,
    nudge: Nudge,
    signs: mpsc::Receiver<()>,
    watcher: Option<RecommendedWatcher>,
    polls: Interval,
}

impl Watched {
    pub(crate) fn new(files: Vec<PathBuf>) -> Self {
        let (sender, signs) = mpsc::channel(1);
        let mut polls = tokio::time::interval(POLL_INTERVAL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        polls.reset();
        Self { files, nudge: Nudge(sender), signs, watcher: None, polls }
    }

    pub(crate) fn nudge(&self) -> Nudge {
        self.nudge.clone()
    }

    /// Watches the folders, if it does not yet. Call it before reading, so that what is written meanwhile is
    /// seen.
    pub(crate) fn watch(&mut self) {
        if self.watcher.is_none() {
            self.watcher = self.watch_folders();
        }
    }

    /// The folders of all files; `None` if one of them cannot be watched now.
    fn watch_folders(&self) -> Option<RecommendedWatcher> {
        let nudge = self.nudge.clone();
        let tell = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|e| !e.kind.is_access()) {
                nudge.now();
            }
        };
        let mut watcher = notify::recommended_watcher(tell).ok()?;
        let folders: BTreeSet<PathBuf> = self.files.iter().map(|f| folder(f)).collect();
        for folder in folders {
            watcher.watch(&folder, RecursiveMode::NonRecursive).ok()?;
        }
        Some(watcher)
    }

    /// Waits for the next sign of a change; `false` when it is time to stop.
    pub(crate) async fn changed(&mut self, stop: &CancellationToken) -> bool {
        tokio::select! {
            () = stop.cancelled() => return false,
            _ = self.signs.recv() => {
                if stop.run_until_cancelled(tokio::time::sleep(SETTLE_TIME)).await.is_none() {
                    return false;
                }
                // Those that came meanwhile are the same news.
                while self.signs.try_recv().is_ok() {}
            }
            _ = self.polls.tick() => {}
        }
        true
    }
}

fn folder(file: &Path) -> PathBuf {
    let parent = file.parent().filter(|p| !p.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}

/// Something that is made of files and replaced as a whole when they change.
pub(crate) trait Reload: Send + Sync + 'static {
    /// What people call it.
    const WHAT: &str;

    /// The files.
    fn files(&self) -> Vec<PathBuf>;

    /// Reads the files, and takes them if they have changed and are good; whether they were taken. Reads from
    /// disk, so not for a thread that must not wait. After an error, the old ones stay in use.
    fn reload(&self) -> Result<bool, String>;

    /// What is doubtful about what is in use.
    fn doubt(&self) -> Option<String>;
}

/// Keeps it up to date until the token is cancelled. `report` is told what is wrong whenever that changes;
/// `None` says that nothing is.
pub(crate) async fn keep_current<R: Reload>(
    current: Arc<R>,
    mut watched: Watched,
    report: impl Fn(Option<String>) + Send,
    stop: CancellationToken,
) {
    let mut told = None;
    loop {
        watched.watch();
        let reading = Arc::clone(&current);
        let read = tokio::task::spawn_blocking(move || reading.reload()).await;
        let problem = match read.unwrap_or_else(|panic| Err(panic.to_string())) {
            Ok(taken) => {
                if taken {
                    info!("{} read again", R::WHAT);
                }
                current.doubt()
            }
            Err(error) => Some(format!("{error}; what was there before stays in use")),
        };
        if problem != told {
            if let Some(problem) = &problem {
                warn!(problem, "{}", R::WHAT);
            }
            report(problem.clone());
            told = problem;
        }
        if !watched.changed(&stop).await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_folder_stands_in_the_current_one() {
        assert_eq!(folder(Path::new("a.crt")), PathBuf::from("."));
        assert_eq!(folder(Path::new("/etc/dunlin/a.crt")), PathBuf::from("/etc/dunlin"));
    }

    #[test]
    fn only_files_of_some_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        std::fs::write(&file, vec![0; 1 << 20]).unwrap();
        assert_eq!(read(&file).unwrap().0.len(), 1 << 20);
        std::fs::write(&file, vec![0; (1 << 20) + 1]).unwrap();
        assert_eq!(read(&file).unwrap_err().to_string(), "is larger than 1 MiB");
        assert_eq!(read(folder.path()).unwrap_err().to_string(), "is not a file");
    }
}
