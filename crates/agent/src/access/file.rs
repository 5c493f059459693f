//! The file of tokens, kept up to date.

use std::path::{Path, PathBuf};

use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use thiserror::Error;

use super::token::{BadTokens, Tokens};
use crate::watched::{self, Reload};

/// Why a file of tokens cannot be used. What was in use stays so.
#[derive(Debug, Error)]
#[error("{}: {problem}", path.display())]
pub struct TokensError {
    path: PathBuf,
    problem: String,
}

/// The tokens in use, replaced as a whole when the file changes.
#[derive(Debug)]
pub struct SharedTokens {
    path: PathBuf,
    current: ArcSwap<Loaded>,
}

#[derive(Debug, Default)]
struct Loaded {
    sum: Vec<u8>,
    mode: u32,
    tokens: Arc<Tokens>,
}

impl SharedTokens {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is not right, or every user of the host may write it.
    pub fn load(path: &Path) -> Result<Self, TokensError> {
        let loaded = Loaded::read(path)?;
        Ok(Self { path: path.to_owned(), current: ArcSwap::from_pointee(loaded) })
    }

    #[cfg(test)]
    pub(crate) fn fixed(tokens: Tokens) -> Self {
        let loaded = Loaded { tokens: Arc::new(tokens), ..Loaded::default() };
        Self { path: PathBuf::new(), current: ArcSwap::from_pointee(loaded) }
    }

    /// The newest ones.
    #[must_use]
    pub fn current(&self) -> Arc<Tokens> {
        Arc::clone(&self.current.load().tokens)
    }

    /// What to say when every user of this host can read the file. Its sums give no token away, yet tell who
    /// may do what.
    #[must_use]
    pub fn exposed(&self) -> Option<String> {
        let (path, mode) = (self.path.display(), self.current.load().mode);
        (mode & 0o004 != 0)
            .then(|| format!("every user of this host can read {path} (mode {mode:o})"))
    }
}

impl Loaded {
    fn read(path: &Path) -> Result<Self, TokensError> {
        let wrong = |problem: String| TokensError { path: path.to_owned(), problem };
        let (octets, mode) = watched::read(path).map_err(|e| wrong(e.to_string()))?;
        if mode & 0o002 != 0 {
            let problem =
                format!("every user of this host can write it (mode {mode:o}); chmod 640");
            return Err(wrong(problem));
        }
        let text = std::str::from_utf8(&octets).map_err(|_| wrong("is not UTF-8".to_owned()))?;
        let tokens = Tokens::parse(text).map_err(|e: BadTokens| wrong(e.to_string()))?;
        let sum = digest::digest(&digest::SHA256, &octets).as_ref().to_vec();
        Ok(Self { sum, mode, tokens: Arc::new(tokens) })
    }
}

impl Reload for SharedTokens {
    const WHAT: &str = "tokens";

    fn files(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    fn reload(&self) -> Result<bool, String> {
        let new = Loaded::read(&self.path).map_err(|e| e.to_string())?;
        let is_new = new.sum != self.current.load().sum;
        self.current.store(Arc::new(new));
        Ok(is_new)
    }

    /// That the file can be read is a matter for the log and for `dunlin doctor`, no problem of the agent.
    fn doubt(&self) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::{NewToken, Scope};
    use super::*;

    #[test]
    fn a_bad_file_keeps_the_last_good_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let chmod = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        assert!(
            SharedTokens::load(&path).unwrap_err().to_string().contains("tokens.toml: No such")
        );
        let [first, second] = [(); 2].map(|()| NewToken::generate().unwrap());
        std::fs::write(&path, first.entry("a", &[Scope::Read])).unwrap();
        chmod(0o640);
        let tokens = SharedTokens::load(&path).unwrap();
        assert_eq!((tokens.exposed(), tokens.reload()), (None, Ok(false)));
        chmod(0o644);
        assert_eq!(tokens.reload(), Ok(false));
        assert!(tokens.exposed().unwrap().contains("can read"));

        std::fs::write(&path, "[[token]]\nname = ").unwrap();
        assert!(tokens.reload().unwrap_err().contains("tokens.toml: "));
        assert!(tokens.current().find(first.secret()).is_some());
        std::fs::write(&path, second.entry("a", &[Scope::Read])).unwrap();
        assert_eq!(tokens.reload(), Ok(true));
        assert!(tokens.current().find(first.secret()).is_none());
        assert!(tokens.current().find(second.secret()).is_some());

        chmod(0o646);
        assert!(tokens.reload().unwrap_err().contains("can write it"));
    }
}
