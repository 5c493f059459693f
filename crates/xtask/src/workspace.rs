//! The workspace as cargo sees it.

use std::collections::BTreeSet;
use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::run::Cmd;

/// Makes the workspace's root the current directory, so that every path here can be relative to it.
pub(crate) fn enter_root() -> Result<()> {
    let manifest = Cmd::cargo("locate-project --workspace --message-format plain").output()?;
    let root = PathBuf::from(manifest.trim());
    let root = root.parent().context("cargo named no workspace manifest")?;
    env::set_current_dir(root).with_context(|| format!("cannot enter {}", root.display()))
}

/// The part of `cargo metadata` that concerns our own packages.
pub(crate) struct Workspace {
    metadata: Value,
}

impl Workspace {
    pub(crate) fn read() -> Result<Self> {
        let json = Cmd::cargo("metadata --no-deps --format-version 1 --locked").output()?;
        Self::parse(&json)
    }

    pub(crate) fn parse(json: &str) -> Result<Self> {
        let metadata = serde_json::from_str(json).context("cargo metadata printed no JSON")?;
        Ok(Self { metadata })
    }

    /// Every package of ours with the packages of ours that are among its dependencies of any kind.
    pub(crate) fn arrows(&self) -> Vec<(String, BTreeSet<String>)> {
        self.packages().map(|package| (name(package), own_dependencies(package))).collect()
    }

    /// The names of all integration test targets, each once.
    pub(crate) fn integration_tests(&self) -> BTreeSet<String> {
        let targets = self.packages().flat_map(|package| list(&package["targets"]));
        let tests = targets.filter(|target| list(&target["kind"]).any(|kind| kind == "test"));
        tests.map(name).collect()
    }

    /// Where a release build leaves `binary`.
    pub(crate) fn release_binary(&self, binary: &str) -> Result<PathBuf> {
        self.binary("release", binary)
    }

    /// Where a build leaves `binary`; its profile has a folder of its own.
    pub(crate) fn binary(&self, folder: &str, binary: &str) -> Result<PathBuf> {
        let target = self.metadata["target_directory"].as_str();
        let target = target.context("cargo metadata names no target directory")?;
        Ok(PathBuf::from(target).join(folder).join(binary))
    }

    fn packages(&self) -> impl Iterator<Item = &Value> {
        list(&self.metadata["packages"])
    }
}

fn own_dependencies(package: &Value) -> BTreeSet<String> {
    let dependencies = list(&package["dependencies"]);
    dependencies.filter(|dependency| dependency["path"].is_string()).map(name).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

fn name(value: &Value) -> String {
    value["name"].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"{
        "target_directory": "/t",
        "packages": [{
            "name": "app",
            "dependencies": [
                {"name": "serde", "path": null, "kind": null},
                {"name": "lib", "path": "/x/lib", "kind": "dev"}
            ],
            "targets": [
                {"name": "app", "kind": ["bin"]},
                {"name": "e2e", "kind": ["test"]}
            ]
        }]
    }"#;

    #[test]
    fn dependencies_by_path_are_our_own() {
        let arrows = Workspace::parse(METADATA).unwrap().arrows();
        assert_eq!(arrows, [("app".to_owned(), BTreeSet::from(["lib".to_owned()]))]);
    }

    #[test]
    fn integration_tests_are_targets_of_kind_test() {
        let tests = Workspace::parse(METADATA).unwrap().integration_tests();
        assert_eq!(tests, BTreeSet::from(["e2e".to_owned()]));
    }

    #[test]
    fn the_release_binary_is_in_the_target_directory() {
        let binary = Workspace::parse(METADATA).unwrap().release_binary("app").unwrap();
        assert_eq!(binary, PathBuf::from("/t/release/app"));
    }
}
