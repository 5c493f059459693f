//! The release build that is measured, and its examples.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::program::run;

/// Where a release build leaves its programs.
#[derive(Debug, Clone)]
pub struct Release {
    target: PathBuf,
    builds: bool,
}

impl Release {
    /// Finds the target folder, which is the one that this program itself was built into (`target/debug/dunlin-bench`).
    /// With `builds` whatever is measured is built before, so that it is what the sources say.
    pub fn find(builds: bool) -> Result<Self> {
        let program = env::current_exe().context("this program's own path is not known")?;
        let target = program.ancestors().nth(2).context("this program is in no target folder")?;
        Ok(Self { target: target.to_owned(), builds })
    }

    /// Builds the binary, unless it is to be taken as it is.
    pub fn build(&self) -> Result<()> {
        if !self.builds {
            return Ok(());
        }
        run("cargo", ["build", "--release", "--locked", "-p", "dunlin"])
    }

    /// The folder of all builds, which lies on the disk that agents use as well.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The `dunlin` binary.
    pub fn binary(&self) -> PathBuf {
        self.target.join("release/dunlin")
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
