//! The release build that is measured, or another binary in its place, and its examples.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result};

use super::program::run;

/// The variable that names another `dunlin` than the one of the release build, such as an older one.
pub const BINARY_VARIABLE: &str = "DUNLIN_BIN";

/// Where a release build leaves its programs.
#[derive(Debug, Clone)]
pub struct Release {
    target: PathBuf,
    /// The binary that [`BINARY_VARIABLE`] names.
    other: Option<PathBuf>,
    builds: bool,
}

impl Release {
    /// Finds the target folder, which is the one that this program itself was built into (`target/debug/dunlin-bench`).
    /// With `builds` the programs are built before they are used, so that they are what the sources say.
    pub fn find(builds: bool) -> Result<Self> {
        let program = env::current_exe().context("this program's own path is not known")?;
        let target = program.ancestors().nth(2).context("this program is in no target folder")?;
        let other = env::var_os(BINARY_VARIABLE).map(|path| absolute(Path::new(&path)));
        Ok(Self { target: target.to_owned(), other: other.transpose()?, builds })
    }

    /// Builds the binary, unless it is to be taken as it is or another one is measured.
    pub fn build(&self) -> Result<()> {
        if !self.builds || self.other.is_some() {
            return Ok(());
        }
        run("cargo", ["build", "--release", "--locked", "-p", "dunlin"])
    }

    /// The folder of all builds, which lies on the disk that agents use as well.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The `dunlin` binary that is measured.
    pub fn binary(&self) -> PathBuf {
        self.other.clone().unwrap_or_else(|| self.target.join("release/dunlin"))
    }

    /// An example of the agent's package, built if it is missing or everything is.
    pub fn example(&self, name: &str) -> Result<PathBuf> {
        let example = self.target.join("release/examples").join(name);
        if self.builds || !example.exists() {
            let what = ["-p", "dunlin-agent", "--example", name];
            run("cargo", ["build", "--quiet", "--release", "--locked"].into_iter().chain(what))?;
        }
        Ok(example)
    }
}

/// The absolute path of a binary, since agents are started from other folders.
///
/// # Errors
/// If there is no such file.
pub fn absolute(binary: &Path) -> Result<PathBuf> {
    fs::canonicalize(binary).with_context(|| format!("there is no binary {}", binary.display()))
}
