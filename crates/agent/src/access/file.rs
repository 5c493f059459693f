//! The file of tokens, kept up to date.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dunlin_shell::{FileContents, Reload, Reloadable, Source, open_to_all};
use thiserror::Error;

use super::token::{BadTokens, Tokens};

/// Why a file of tokens cannot be used. The tokens in use stay so.
#[derive(Debug, Error)]
#[error("{}: {problem}", path.display())]
pub struct TokensError {
    path: PathBuf,
    problem: String,
}

/// The tokens in use, replaced as a whole when the file changes.
#[derive(Debug)]
pub struct SharedTokens(Reloadable<TokensFile>);

#[derive(Debug)]
struct TokensFile(PathBuf);

#[derive(Debug, Default)]
struct LoadedTokens {
    mode: u32,
    tokens: Arc<Tokens>,
}

impl SharedTokens {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is not right, or every user of the host may write it.
    pub fn load(path: &Path) -> Result<Self, TokensError> {
        Reloadable::load(TokensFile(path.to_owned())).map(Self)
    }

    #[cfg(test)]
    pub(crate) fn fixed(tokens: Tokens) -> Self {
        let loaded = LoadedTokens { tokens: Arc::new(tokens), ..LoadedTokens::default() };
        Self(Reloadable::with_value(TokensFile(PathBuf::new()), loaded))
    }

    /// The tokens in use.
    #[must_use]
    pub fn current(&self) -> Arc<Tokens> {
        Arc::clone(&self.0.current().tokens)
    }

    /// A warning when every user of this host can read the file. Its sums give no token away, yet tell who
    /// may do what.
    #[must_use]
    pub fn exposed(&self) -> Option<String> {
        open_to_all(&self.0.source().0, self.0.current().mode, 0o004)
    }
}

impl TokensFile {
    fn wrong(&self, problem: impl ToString) -> TokensError {
        TokensError { path: self.0.clone(), problem: problem.to_string() }
    }
}

impl Source for TokensFile {
    type Value = LoadedTokens;
    type Error = TokensError;

    fn paths(&self) -> Vec<PathBuf> {
        vec![self.0.clone()]
    }

    fn unreadable(&self, _: &Path, error: io::Error) -> TokensError {
        self.wrong(error)
    }

    fn parse(&self, files: &[FileContents]) -> Result<LoadedTokens, TokensError> {
        let [FileContents { octets, mode, .. }] = files else {
            unreachable!("`paths` names one file")
        };
        if mode & 0o002 != 0 {
            let problem =
                format!("every user of this host can write it (mode {mode:o}); chmod 640");
            return Err(self.wrong(problem));
        }
        let text = std::str::from_utf8(octets).map_err(|_| self.wrong("is not UTF-8"))?;
        let tokens = Tokens::parse(text).map_err(|e: BadTokens| self.wrong(e))?;
        Ok(LoadedTokens { mode: *mode, tokens: Arc::new(tokens) })
    }
}

impl Reload for SharedTokens {
    const WHAT: &str = "tokens";

    fn files(&self) -> Vec<PathBuf> {
        self.0.source().paths()
    }

    fn reload(&self) -> Result<bool, String> {
        self.0.reload().map_err(|error| error.to_string())
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
