//! The services folder: every `*.toml` and `*.json` file in it is a provider.
//!
//! Other programs write these files, and not always atomically. A file that cannot be read as a whole keeps its last
//! good state and is reported; a folder that cannot be listed changes nothing at all. Changes are noticed by inotify,
//! and by a slow poll beside it, since inotify has limits and misses some file systems.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dunlin_api as api;
use dunlin_core::host::{Request, RequestError};
use dunlin_core::model::{ProviderId, ProviderKind, Registration};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::translate;
use crate::handle::Handle;

/// The largest file that is read.
const MAX_FILE_OCTETS: u64 = 16 * 1024 * 1024;
/// Time between two polls of the folder.
const POLL_INTERVAL: Duration = Duration::from_secs(10);
/// Time between the first sign of a change and the scan, so that one save is one scan.
const SETTLE_INTERVAL: Duration = Duration::from_millis(20);
/// The subject under which problems with the folder are reported.
const SUBJECT: &str = "services folder";

/// A provider file's content.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSet {
    /// The list is not optional: a file that was cut after its comments does not mean "none".
    #[serde(alias = "instances")]
    instance: Vec<api::Registration>,
}

/// The properties by which two states of a file are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signature {
    modified: Option<SystemTime>,
    octets: u64,
    inode: u64,
    changed_nanos: i64,
}

/// Watches one folder.
#[derive(Debug)]
pub struct ServicesFolder {
    dir: PathBuf,
    node_address: IpAddr,
    handle: Handle,
    seen: BTreeMap<ProviderId, Signature>,
    signs: (mpsc::Sender<()>, mpsc::Receiver<()>),
    /// Set while inotify watches the folder.
    watcher: Option<RecommendedWatcher>,
}

/// Reads a provider file's text.
///
/// # Errors
/// A sentence that says where and what is wrong.
pub fn parse(
    name: &str,
    content: &[u8],
    provider: &ProviderId,
    node_address: IpAddr,
) -> Result<Vec<Registration>, String> {
    let text = std::str::from_utf8(content)
        .map_err(|e| format!("not text: octet {} is not UTF-8", e.valid_up_to()))?;
    if text.trim().is_empty() {
        return Err("the file is empty; to state that there are no instances, \
                    write instance = [] or remove the file"
            .to_owned());
    }
    let set: FileSet = if name.ends_with(".json") {
        serde_json::from_str(text).map_err(|e| e.to_string())?
    } else {
        toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?
    };
    let read = |(at, wire): (usize, api::Registration)| {
        let id: String = wire.id.chars().take(128).collect();
        translate::registration(wire, provider, node_address)
            .map_err(|e| format!("instance {} ({id}): {e}", at + 1))
    };
    set.instance.into_iter().enumerate().map(read).collect()
}

impl ServicesFolder {
    /// A watcher of this folder; instances without an address have the node's.
    #[must_use]
    pub fn new(dir: PathBuf, node_address: IpAddr, handle: Handle) -> Self {
        let (seen, signs) = (BTreeMap::new(), mpsc::channel(1));
        Self { dir, node_address, handle, seen, signs, watcher: None }
    }

    /// Looks at the folder once and tells the driver what changed. Providers of files that are gone
    /// are removed, including those the driver remembers from before a restart.
    ///
    /// # Errors
    /// When the driver has stopped.
    pub async fn scan(&mut self) -> Result<(), RequestError> {
        // The folder is watched before it is listed, so that changes in between are noticed.
        if self.watcher.is_none() {
            self.watcher = watch_folder(&self.dir, self.signs.0.clone());
        }
        let dir = self.dir.clone();
        let listing = tokio::task::spawn_blocking(move || list(&dir)).await;
        let files = match listing.unwrap_or_else(|e| Err(io::Error::other(e))) {
            Ok(files) => files,
            Err(error) => {
                let problem = format!("{} cannot be read: {error}", self.dir.display());
                self.handle.shared().problems.set(SUBJECT, problem);
                return Ok(());
            }
        };
        self.handle.shared().problems.clear(SUBJECT);
        let registry = self.handle.shared().registry.load_full();
        let known = registry.providers().map(|(provider, _)| provider);
        let known = known.filter(|provider| provider.kind() == ProviderKind::File);
        let known: BTreeSet<ProviderId> = known.cloned().collect();
        for provider in &known {
            if !files.contains_key(provider) {
                self.remove(provider.clone()).await?;
            }
        }
        for (provider, (path, signature)) in files {
            let is_seen = known.contains(&provider) && self.seen.get(&provider) == Some(&signature);
            if !is_seen && self.read(&provider, path).await? {
                self.seen.insert(provider, signature);
            }
        }
        Ok(())
    }

    async fn remove(&mut self, provider: ProviderId) -> Result<(), RequestError> {
        self.seen.remove(&provider);
        match self.handle.ask(Request::RemoveProvider(provider.clone())).await {
            Ok(_) => info!(%provider, "provider file is gone"),
            Err(RequestError::Stopping) => return Err(RequestError::Stopping),
            // The provider stays known, so the next scan tries again.
            Err(error) => warn!(%provider, %error, "provider could not be removed"),
        }
        Ok(())
    }

    /// Reads one file and states its set. False if it is to be tried again although it stays as it is.
    async fn read(&self, provider: &ProviderId, path: PathBuf) -> Result<bool, RequestError> {
        let (name, address) = (provider.clone(), self.node_address);
        let read = tokio::task::spawn_blocking(move || {
            let content = read_whole(&path)?;
            parse(name.name(), &content, &name, address)
        });
        let error = match read.await.unwrap_or_else(|e| Err(e.to_string())) {
            Ok(instances) => {
                let provider = provider.clone();
                let put = Request::PutProvider { provider, instances, ttl: None };
                match self.handle.ask(put).await {
                    Ok(_) => return Ok(true),
                    Err(RequestError::Stopping) => return Err(RequestError::Stopping),
                    Err(RequestError::Storage(_) | RequestError::Busy) => return Ok(false),
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => error,
        };
        warn!(%provider, %error, "provider file is not taken; its last good state holds");
        let failed = Request::ProviderFailed { provider: provider.clone(), error };
        match self.handle.ask(failed).await {
            Err(RequestError::Stopping) => Err(RequestError::Stopping),
            // The engine notes the failure even if the disk takes no changes.
            Ok(_) | Err(_) => Ok(true),
        }
    }

    /// Scans at every change and every few seconds, until the token is cancelled.
    pub async fn watch(mut self, stop: CancellationToken, mut rescan: mpsc::Receiver<()>) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = self.signs.1.recv() => {
                    // One save makes several signs; those that come meanwhile are the same news.
                    tokio::time::sleep(SETTLE_INTERVAL).await;
                    let _ = self.signs.1.try_recv();
                }
                Some(()) = rescan.recv() => self.seen.clear(),
                () = tokio::time::sleep(POLL_INTERVAL) => {
                    if !self.dir.is_dir() {
                        self.watcher = None;
                    }
                }
            }
            match self.scan().await {
                Err(RequestError::Stopping) => return,
                Err(error) => warn!(%error, "services folder not taken; trying again"),
                Ok(()) => {}
            }
        }
    }
}

/// Watches the folder by inotify; where that is not possible, only the poll notices changes.
fn watch_folder(dir: &Path, wake: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let tell = move |event: notify::Result<notify::Event>| {
        let is_read = event.is_ok_and(|e| e.kind.is_access());
        if !is_read {
            // A full queue means that a scan is due already.
            let _ = wake.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(tell).ok()?;
    watcher.watch(dir, RecursiveMode::NonRecursive).ok()?;
    Some(watcher)
}

type Files = BTreeMap<ProviderId, (PathBuf, Signature)>;

fn list(dir: &Path) -> io::Result<Files> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        let is_ours = name.ends_with(".toml") || name.ends_with(".json");
        if !is_ours || name.starts_with('.') {
            continue;
        }
        let Ok(provider) = ProviderId::new(ProviderKind::File, name) else {
            warn!(
                file = name,
                "file name holds characters that a provider's name may not; ignored"
            );
            continue;
        };
        // A link to nowhere is a file that is gone; another error shows when it is read.
        let signature = match fs::metadata(&path) {
            Ok(metadata) => Signature {
                modified: metadata.modified().ok(),
                octets: metadata.len(),
                inode: metadata.ino(),
                changed_nanos: metadata.ctime_nsec(),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(_) => Signature { modified: None, octets: 0, inode: 0, changed_nanos: 0 },
        };
        files.insert(provider, (path, signature));
    }
    Ok(files)
}

fn read_whole(path: &Path) -> Result<Vec<u8>, String> {
    let text = |e: io::Error| e.to_string();
    // The type is asked for before the file is opened: opening a FIFO would wait for its writer.
    let metadata = fs::metadata(path).map_err(text)?;
    if !metadata.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut content = Vec::new();
    let file = File::open(path).map_err(text)?;
    file.take(MAX_FILE_OCTETS + 1).read_to_end(&mut content).map_err(text)?;
    if content.len() as u64 > MAX_FILE_OCTETS {
        let octets = metadata.len();
        return Err(format!("the file has {octets} octets; at most {MAX_FILE_OCTETS} are read"));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, content: &[u8]) -> Result<usize, String> {
        let provider = ProviderId::new(ProviderKind::File, name).unwrap();
        parse(name, content, &provider, IpAddr::from([127, 0, 0, 1])).map(|set| set.len())
    }

    #[test]
    fn toml_and_json_say_the_same() {
        let toml = b"[[instance]]\nid = \"a\"\nservice = \"web\"\nport = 1\n";
        assert_eq!(read("x.toml", toml), Ok(1));
        let json = br#"{"instance":[{"id":"a","service":"web","port":1}]}"#;
        assert_eq!(read("x.json", json), Ok(1));
        assert_eq!(read("x.toml", b"instance = []"), Ok(0));
    }

    #[test]
    fn bad_files_are_refused_with_place_and_reason() {
        let cases: [(&str, &[u8], &str); 11] = [
            ("x.toml", b"", "is empty"),
            ("x.toml", b" \n", "is empty"),
            ("x.toml", b"# the web servers\n", "missing field"),
            ("x.json", b"{}", "missing field"),
            ("x.toml", b"[[instance]]\nid = \"a\"\nservi", "line 3"),
            ("x.toml", b"\xff\xfe\x00", "octet 0 is not UTF-8"),
            ("x.toml", b"a = 1", "unknown field `a`"),
            ("x.toml", b"[[instance]]\nid=\"a\"\nid=\"b\"", "duplicate key"),
            ("x.toml", b"[[instance]]\nid=1\nservice=\"web\"\nport=1", "line 2"),
            ("x.json", br#"{"instance":[{"id":"a","service":"web","port":"80"}]}"#, "line 1"),
            ("x.json", br#"{"instance":[{"id":"a","service":"web","port":0}]}"#, "instance 1 (a)"),
        ];
        for (name, content, expected) in cases {
            let error = read(name, content).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn what_is_not_a_file_or_too_large_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_whole(dir.path()).unwrap_err(), "not a regular file");
        let large = dir.path().join("large.toml");
        File::create(&large).unwrap().set_len(20 * 1024 * 1024).unwrap();
        assert!(read_whole(&large).unwrap_err().contains("at most"));
    }

    #[test]
    fn hidden_files_and_links_to_nowhere_are_not_listed() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".web.toml.swp", ".x.toml", "readme.md", "web.toml~", "web.toml"] {
            fs::write(dir.path().join(name), "instance = []").unwrap();
        }
        std::os::unix::fs::symlink("nowhere", dir.path().join("gone.toml")).unwrap();
        // A link to itself cannot be read, which its provider will say; the others are not kept from it.
        std::os::unix::fs::symlink("self.toml", dir.path().join("self.toml")).unwrap();
        let files = list(dir.path()).unwrap();
        let names: Vec<&str> = files.keys().map(ProviderId::name).collect();
        assert_eq!(names, ["self.toml", "web.toml"]);
    }
}
