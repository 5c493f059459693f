//! The keyring on disk: so that agents which all restart together can speak at once.
//!
//! One version octet, the offers as postcard, and the SHA-256 digest of both. A file that is not whole
//! is not used: the agent receives the keys again when it joins.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::digest;
use thiserror::Error;

use super::{KeyOffer, MAX_KEYS};

/// The file's name in the data directory.
pub const FILE_NAME: &str = "cluster-keys";

const VERSION: u8 = 1;
const DIGEST_OCTETS: usize = 32;
/// Octets of a file that are read; no file that was written by [`save`] has more.
const MAX_OCTETS: u64 = 4096;

/// Why keys could not be read from disk. The agent goes on without.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// The system refused.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is not what was written.
    #[error("is damaged; the keys come from the other agents instead")]
    Damaged,
}

/// Saves keys so that after a crash the old or the new ones are there. Nobody else may read the file.
///
/// # Errors
/// When the system refuses. The old file is then still there.
pub fn save(path: &Path, keys: &[KeyOffer]) -> io::Result<()> {
    let mut content = vec![VERSION];
    content = postcard::to_extend(keys, content).map_err(io::Error::other)?;
    let digest = digest::digest(&digest::SHA256, &content);
    content.extend_from_slice(digest.as_ref());
    let draft = path.with_extension("new");
    // What a crash left behind may have another mode.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(&content)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// Reads saved keys; none if there is no file.
///
/// # Errors
/// When the file cannot be read or is damaged.
pub fn load(path: &Path) -> Result<Vec<KeyOffer>, KeyFileError> {
    let mut content = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(MAX_OCTETS).read_to_end(&mut content)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    decode(&content).ok_or(KeyFileError::Damaged)
}

fn decode(content: &[u8]) -> Option<Vec<KeyOffer>> {
    let (content, found) = content.split_at_checked(content.len().checked_sub(DIGEST_OCTETS)?)?;
    let is_whole = digest::digest(&digest::SHA256, content).as_ref() == found;
    let (VERSION, keys) = content.split_first().map(|(v, k)| (*v, k))? else { return None };
    let keys: Vec<KeyOffer> = postcard::from_bytes(keys).ok().filter(|_| is_whole)?;
    (keys.len() <= MAX_KEYS).then_some(keys)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::super::Secret;
    use super::*;

    fn keys() -> Vec<KeyOffer> {
        let key = |n: u8| KeyOffer {
            generation: n.into(),
            secret: Secret::from_bytes([n; 32]),
            age_millis: 7,
        };
        vec![key(1), key(2)]
    }

    #[test]
    fn keys_come_back_from_a_file_that_only_its_owner_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        assert!(load(&path).unwrap().is_empty());
        fs::write(path.with_extension("new"), "left behind by a crash").unwrap();
        save(&path, &keys()).unwrap();
        assert_eq!(load(&path).unwrap(), keys());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        save(&path, &keys()[..1]).unwrap();
        assert_eq!(load(&path).unwrap(), keys()[..1]);
    }

    #[test]
    fn a_damaged_file_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        save(&path, &keys()).unwrap();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(decode(&damaged).is_none(), "octet {at}");
            assert!(decode(&whole[..at]).is_none(), "cut at {at}");
        }
        fs::write(&path, "nonsense").unwrap();
        assert!(matches!(load(&path), Err(KeyFileError::Damaged)));
    }

    proptest! {
        #[test]
        fn no_file_can_make_it_panic(content in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(&content).is_none());
        }
    }
}
