//! The house rules that no compiler and no lint knows.
//!
//! Each rule is a function from what was read to its violations; reading happens here alone.

mod arrows;
mod cycles;
mod links;
mod modules;
mod paths;
mod text;

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use crate::run::Cmd;
use crate::workspace::Workspace;

/// A text file of the repository.
pub(crate) struct File {
    /// Relative to the workspace's root, with `/` between folders.
    path: String,
    text: String,
}

/// A place where a rule is broken, and how.
#[derive(Debug, PartialEq)]
struct Violation {
    place: String,
    what: String,
}

impl Violation {
    fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }

    fn at(file: &File, line: usize, what: impl Into<String>) -> Self {
        Self::new(format!("{}:{line}", file.path), what)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Checks the whole repository and prints every violation.
pub(crate) fn check() -> Result<()> {
    let files = repository_files()?;
    let exists = |path: &Path| path.exists();
    let mut violations: Vec<_> = files.iter().flat_map(text::check).collect();
    violations.extend(files.iter().flat_map(|file| links::check(file, exists)));
    violations.extend(links::check_summary(&files));
    violations.extend(cycles::check(&files));
    violations.extend(arrows::check(&Workspace::read()?.arrows()));
    violations.extend(files.iter().flat_map(arrows::check_imports));
    violations.extend(arrows::check_core_tree(&core_tree()?));
    for violation in &violations {
        println!("{violation}");
    }
    match violations.len() {
        0 => Ok(()),
        count => bail!("house rules broken in {count} places"),
    }
}

/// Every text file that git tracks or would track. Vendored files are as their authors wrote them.
fn repository_files() -> Result<Vec<File>> {
    let list = Cmd::new("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let list = list.output()?;
    let paths = list.split('\0').filter(|path| !path.is_empty() && !path.contains("/vendor/"));
    // A file that cannot be read as text is a binary one, or is tracked and was just removed.
    let read = |path: &str| {
        let text = fs::read_to_string(path).ok()?;
        Some(File { path: path.to_owned(), text })
    };
    Ok(paths.filter_map(read).collect())
}

fn core_tree() -> Result<String> {
    let tree = "tree --package dunlin-core --edges normal,build,dev --prefix none --locked";
    Cmd::cargo(tree).output()
}
