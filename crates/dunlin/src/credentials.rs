//! The credentials that commands show to an agent: a token, and certificates for https.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use dunlin_api::client::Credentials;

use crate::failure::Failure;

/// The options that name the credentials.
#[derive(Debug, Clone, Args)]
pub(crate) struct CredentialArgs {
    /// The token to show. Give it as the variable: arguments can be seen by every user of the host.
    #[arg(long, global = true, env = "DUNLIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<Token>,

    /// For https: certificates of the authority that signed the agent's.
    #[arg(long, global = true, env = "DUNLIN_CA", value_name = "FILE")]
    ca: Option<PathBuf>,

    /// For agents that ask for one: the certificate to show.
    #[arg(long, global = true, env = "DUNLIN_CERT", value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,

    /// The key of the certificate to show.
    #[arg(long, global = true, env = "DUNLIN_KEY", value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

/// A token that is not printed by accident.
#[derive(Clone)]
struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl std::str::FromStr for Token {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl CredentialArgs {
    /// Reads the files that are named.
    pub(crate) fn read(&self) -> Result<Credentials> {
        let wrong = |what: &str, error: String| {
            Failure::wrong_use(
                format!("{what}: {error}"),
                "dunlin --help tells what belongs there.",
            )
        };
        let mut credentials = Credentials::default();
        if let Some(Token(token)) = self.token.as_ref().filter(|t| !t.0.trim().is_empty()) {
            let shown = credentials.with_token(token);
            credentials = shown.map_err(|e| wrong("--token", e.to_string()))?;
        }
        let Some(ca) = &self.ca else { return Ok(credentials) };
        let read = |path: &Path| {
            std::fs::read(path).map_err(|e| wrong(&path.display().to_string(), e.to_string()))
        };
        let authorities = read(ca)?;
        let own = self.cert.as_deref().zip(self.key.as_deref());
        let own = own.map(|(cert, key)| Ok::<_, Failure>((read(cert)?, read(key)?))).transpose()?;
        let own = own.as_ref().map(|(cert, key)| (&cert[..], &key[..]));
        let with = credentials.with_tls(&authorities, own);
        Ok(with.map_err(|e| wrong(&ca.display().to_string(), e.to_string()))?)
    }
}
