//! Files that are read again when they change, such as certificates and tokens.
//!
//! The folders are watched rather than the files, since files are renamed into their place or reached through links
//! that change. A slow poll goes beside that, since inotify does not see every file system.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Time between two polls.
const POLL_INTERVAL: Duration = Duration::from_secs(30);
/// Time between the first sign of a change and the reading: files that belong together are written one after another.
const SETTLE_DELAY: Duration = Duration::from_millis(100);
/// The largest file that is read.
const MAX_FILE_OCTETS: u64 = 1 << 20;

/// Reads a file of at most 1 MiB, and its permissions, e.g. `0o600`.
///
/// # Errors
/// When the file cannot be read, is larger, or is not a regular file.
pub fn read_file(path: &Path) -> io::Result<(Vec<u8>, u32)> {
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

/// Has the files read now, whether or not the system reports a change.
#[derive(Debug, Clone)]
pub struct Nudge(mpsc::Sender<()>);

impl Nudge {
    /// Has the files read soon, and returns at once.
    pub fn now(&self) {
        // A full queue means that a reading is due already, a closed one that nobody watches the files any more.
        let _ = self.0.try_send(());
    }
}

/// Waits for any of some files to change.
#[derive(Debug)]
pub struct WatchedFiles {
    files: Vec<PathBuf>,
    nudge: Nudge,
    signs: mpsc::Receiver<()>,
    watcher: Option<RecommendedWatcher>,
    polls: Interval,
}

impl WatchedFiles {
    /// Names the files. Nothing is watched before [`watch`](Self::watch). Call it within a tokio runtime.
    #[must_use]
    pub fn new(files: Vec<PathBuf>) -> Self {
        let (sender, signs) = mpsc::channel(1);
        let mut polls = tokio::time::interval(POLL_INTERVAL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        polls.reset();
        Self { files, nudge: Nudge(sender), signs, watcher: None, polls }
    }

    /// A way to have the files read at once, for a process that is told to reload.
    #[must_use]
    pub fn nudge(&self) -> Nudge {
        self.nudge.clone()
    }

    /// Watches the folders, if they are not watched yet. Call it before reading, so that what is written during the
    /// reading is seen.
    pub fn watch(&mut self) {
        if self.watcher.is_none() {
            self.watcher = self.watch_folders();
        }
    }

    /// A watcher of all folders; `None` if one of them cannot be watched now.
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

    /// Waits for the next sign of a change; `false` when the token was cancelled.
    pub async fn changed(&mut self, stop: &CancellationToken) -> bool {
        tokio::select! {
            () = stop.cancelled() => return false,
            _ = self.signs.recv() => {
                if stop.run_until_cancelled(tokio::time::sleep(SETTLE_DELAY)).await.is_none() {
                    return false;
                }
                // Signs that came during the delay announce the same change.
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
        assert_eq!(read_file(&file).unwrap().0.len(), 1 << 20);
        std::fs::write(&file, vec![0; (1 << 20) + 1]).unwrap();
        assert_eq!(read_file(&file).unwrap_err().to_string(), "is larger than 1 MiB");
        assert_eq!(read_file(folder.path()).unwrap_err().to_string(), "is not a file");
    }
}
