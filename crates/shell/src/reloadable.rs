//! A value that is made of files and replaced as a whole when they change.
//!
//! A [`Source`] says which files there are and what they mean; [`Reloadable`] holds the value in use. New files take
//! effect when all of them were read and the new value is good; until then, and after any error, the old value stays.
//! [`keep_current`] does that in the background.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::watched_files::{WatchedFiles, read_file};

/// How often the log repeats a problem that lasts.
const WARN_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// One file as it was read.
#[derive(Debug, Clone)]
pub struct FileContents {
    /// The path of the file.
    pub path: PathBuf,
    /// The octets of the file, which are overwritten when they are dropped: some of these files are keys.
    pub octets: Zeroizing<Vec<u8>>,
    /// The permissions of the file, e.g. `0o600`.
    pub mode: u32,
}

/// Says what files mean.
pub trait Source: Send + Sync + 'static {
    /// What is made of the files.
    type Value: Send + Sync + 'static;
    /// Why nothing can be made of them.
    type Error;

    /// The files, in a fixed order.
    fn paths(&self) -> Vec<PathBuf>;

    /// The error for a file that cannot be read.
    fn unreadable(&self, path: &Path, error: io::Error) -> Self::Error;

    /// Makes the value of the files' contents, which are in the order of [`paths`](Self::paths).
    ///
    /// # Errors
    /// When the files do not hold what they should, or do not fit together.
    fn parse(&self, files: &[FileContents]) -> Result<Self::Value, Self::Error>;

    /// Judges a value that would replace the one in use, more strictly than at the start: a process may have to start
    /// with an expired certificate, but never exchanges a valid one for it.
    ///
    /// # Errors
    /// When the value in use should stay.
    fn check_replacement(&self, _new: &Self::Value) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// The value in use. Reading it takes no lock.
#[derive(Debug)]
pub struct Reloadable<S: Source> {
    source: S,
    current: ArcSwap<Loaded<S::Value>>,
}

#[derive(Debug)]
struct Loaded<V> {
    fingerprint: Fingerprint,
    value: Arc<V>,
}

/// Tells one state of the files from another without keeping their contents.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fingerprint {
    sum: Vec<u8>,
    modes: Vec<u32>,
}

impl Fingerprint {
    fn of(files: &[FileContents]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for file in files {
            context.update(&file.octets.len().to_be_bytes());
            context.update(&file.octets);
        }
        let sum = context.finish().as_ref().to_vec();
        Self { sum, modes: files.iter().map(|file| file.mode).collect() }
    }
}

impl<S: Source> Reloadable<S> {
    /// Reads the files and makes the first value of them.
    ///
    /// # Errors
    /// Those of the source.
    pub fn load(source: S) -> Result<Self, S::Error> {
        let files = read(&source)?;
        let value = Arc::new(source.parse(&files)?);
        let loaded = Loaded { fingerprint: Fingerprint::of(&files), value };
        Ok(Self { source, current: ArcSwap::from_pointee(loaded) })
    }

    /// Begins with a value that was not read from the files.
    #[must_use]
    pub fn with_value(source: S, value: S::Value) -> Self {
        let loaded = Loaded { fingerprint: Fingerprint::of(&[]), value: Arc::new(value) };
        Self { source, current: ArcSwap::from_pointee(loaded) }
    }

    /// The value in use.
    #[must_use]
    pub fn current(&self) -> Arc<S::Value> {
        Arc::clone(&self.current.load().value)
    }

    /// Where the value comes from.
    #[must_use]
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Reads the files, and takes what they hold if it has changed and is good. Returns whether new contents were
    /// taken; new permissions take effect too, but do not count. This reads from disk, so a thread that must not wait
    /// may not call it.
    ///
    /// # Errors
    /// Those of the source; the value from before stays in use.
    pub fn reload(&self) -> Result<bool, S::Error> {
        let files = read(&self.source)?;
        let (new, old) = (Fingerprint::of(&files), self.current.load());
        if new == old.fingerprint {
            return Ok(false);
        }
        let value = self.source.parse(&files)?;
        let is_news = new.sum != old.fingerprint.sum;
        if is_news {
            self.source.check_replacement(&value)?;
        }
        self.current.store(Arc::new(Loaded { fingerprint: new, value: Arc::new(value) }));
        Ok(is_news)
    }
}

fn read<S: Source>(source: &S) -> Result<Vec<FileContents>, S::Error> {
    let read = |path: PathBuf| match read_file(&path) {
        Ok((octets, mode)) => Ok(FileContents { path, octets: Zeroizing::new(octets), mode }),
        Err(error) => Err(source.unreadable(&path, error)),
    };
    source.paths().into_iter().map(read).collect()
}

/// A warning for a file that any user of this host can read although the permissions in `mask` should be off.
#[must_use]
pub fn open_to_all(path: &Path, mode: u32, mask: u32) -> Option<String> {
    let path = path.display();
    (mode & mask != 0).then(|| format!("every user of this host can read {path} (mode {mode:o})"))
}

/// A value that [`keep_current`] can keep up to date.
pub trait Reload: Send + Sync + 'static {
    /// The name of the value in the log.
    const WHAT: &str;

    /// The files that the value is made of.
    fn files(&self) -> Vec<PathBuf>;

    /// As [`Reloadable::reload`].
    ///
    /// # Errors
    /// A sentence about what is wrong with the files; the value from before stays in use.
    fn reload(&self) -> Result<bool, String>;

    /// What is doubtful about the value in use.
    fn doubt(&self) -> Option<String>;

    /// What the log says of the value in use when it is new.
    fn summary(&self) -> Option<String> {
        None
    }
}

/// Keeps a value up to date until the token is cancelled. `report` is told what is wrong whenever that changes;
/// `None` says that nothing is. The log repeats once a day what is still wrong.
pub async fn keep_current<R: Reload>(
    current: Arc<R>,
    mut watched: WatchedFiles,
    report: impl Fn(Option<String>) + Send,
    stop: CancellationToken,
) {
    let mut told = None;
    let mut warned_at = Instant::now();
    loop {
        watched.watch();
        let reading = Arc::clone(&current);
        let read = tokio::task::spawn_blocking(move || reading.reload()).await;
        let problem = match read.unwrap_or_else(|panic| Err(panic.to_string())) {
            Ok(taken) => {
                if taken {
                    info!(now = current.summary(), "{} read again", R::WHAT);
                }
                current.doubt()
            }
            Err(error) => Some(format!("{error}; the one from before stays in use")),
        };
        let is_news = problem != told;
        if is_news || warned_at.elapsed() >= WARN_INTERVAL {
            if let Some(problem) = &problem {
                warn!(problem, "{}", R::WHAT);
            }
            warned_at = Instant::now();
        }
        if is_news {
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
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Two files, each a number; the value is their sum and may only grow.
    struct Sum([PathBuf; 2]);

    impl Source for Sum {
        type Value = u32;
        type Error = String;

        fn paths(&self) -> Vec<PathBuf> {
            self.0.to_vec()
        }

        fn unreadable(&self, path: &Path, error: io::Error) -> String {
            format!("{}: {error}", path.display())
        }

        fn parse(&self, files: &[FileContents]) -> Result<u32, String> {
            let number = |file: &FileContents| {
                let text = std::str::from_utf8(&file.octets).map_err(|e| e.to_string())?;
                text.parse::<u32>().map_err(|e| e.to_string())
            };
            Ok(number(&files[0])? + number(&files[1])?)
        }

        fn check_replacement(&self, new: &u32) -> Result<(), String> {
            if *new < 10 { Err("is too small".to_owned()) } else { Ok(()) }
        }
    }

    #[test]
    fn the_old_value_stays_until_the_new_files_are_good() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| folder.path().join(name));
        let write = |at: usize, text: &str| std::fs::write(&paths[at], text).unwrap();
        write(0, "1");
        let missing = Reloadable::load(Sum(paths.clone())).map(|_| ()).unwrap_err();
        assert!(missing.contains("/b: No such file"), "{missing}");
        write(1, "2");
        let sum = Reloadable::load(Sum(paths.clone())).unwrap();
        assert_eq!((*sum.current(), sum.reload()), (3, Ok(false)), "a start may be small");
        write(0, "20");
        assert_eq!((sum.reload(), *sum.current()), (Ok(true), 22));
        write(1, "two");
        assert!(sum.reload().is_err());
        write(1, "2");
        write(0, "3");
        assert_eq!((sum.reload(), *sum.current()), (Err("is too small".to_owned()), 22));
    }

    #[test]
    fn new_permissions_are_judged_and_are_no_news() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| folder.path().join(name));
        paths.iter().for_each(|path| std::fs::write(path, "5").unwrap());
        let sum = Reloadable::load(Sum(paths.clone())).unwrap();
        let before = sum.current();
        std::fs::set_permissions(&paths[0], std::fs::Permissions::from_mode(0o604)).unwrap();
        assert_eq!(sum.reload(), Ok(false));
        assert!(!Arc::ptr_eq(&before, &sum.current()), "the source has seen the new mode");
        std::fs::write(&paths[0], "1").unwrap();
        let small = Reloadable::load(Sum(paths.clone())).unwrap();
        std::fs::set_permissions(&paths[0], std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(small.reload(), Ok(false), "the value in use is not replaced by another one");
        assert_eq!(open_to_all(Path::new("a"), 0o640, 0o007), None);
        let warning = open_to_all(Path::new("a"), 0o604, 0o007);
        assert_eq!(warning.unwrap(), "every user of this host can read a (mode 604)");
    }
}
