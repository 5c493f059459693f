//! Which package may use which, and what may never reach `core`.

use std::collections::BTreeSet;

use super::paths::paths;
use super::{File, Violation};

/// Each package with the packages of ours that it may use. A new package needs a row here.
const ALLOWED: &[(&str, &[&str])] = &[
    ("dunlin-core", &[]),
    ("dunlin-api", &[]),
    ("dunlin-table", &[]),
    ("dunlin-shell", &[]),
    ("dunlin-router", &["dunlin-core", "dunlin-api", "dunlin-shell"]),
    (
        "dunlin-agent",
        &["dunlin-core", "dunlin-api", "dunlin-shell", "dunlin-table", "dunlin-router"],
    ),
    ("dunlin-preload", &["dunlin-table"]),
    (
        "dunlin",
        &[
            "dunlin-agent",
            "dunlin-router",
            "dunlin-shell",
            "dunlin-table",
            "dunlin-api",
            "dunlin-core",
        ],
    ),
    ("dunlin-sim", &["dunlin-core"]),
    ("dunlin-bench", &[]),
    ("xtask", &[]),
];

/// Folders beside `crates` that hold targets of a package.
const TARGETS: &[(&str, &str)] = &[("tests/e2e/", "dunlin"), ("tests/storm/", "dunlin-bench")];

/// Crates that open sockets, files or databases, or bring a runtime.
const NOT_IN_CORE: &[&str] = &["tokio", "mio", "socket2", "rusqlite"];

/// Every arrow between our packages is one of the allowed ones.
pub(super) fn check(arrows: &[(String, BTreeSet<String>)]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (user, used) in arrows {
        let Some((_, allowed)) = ALLOWED.iter().find(|(package, _)| package == user) else {
            let what = "a package without a row in the table of allowed arrows";
            violations.push(Violation::new(user, what));
            continue;
        };
        let forbidden = used.iter().filter(|&package| !allowed.contains(&package.as_str()));
        violations.extend(
            forbidden.map(|package| Violation::new(user, format!("must not depend on {package}"))),
        );
    }
    violations
}

/// Every import of a package of ours is allowed to the package that the file belongs to.
pub(super) fn check_imports(file: &File) -> Vec<Violation> {
    let Some(user) = package_of(&file.path) else { return Vec::new() };
    let allowed = ALLOWED.iter().find(|(package, _)| *package == user).map(|(_, used)| *used);
    let is_allowed = |used: &str| used == user || allowed.is_some_and(|all| all.contains(&used));
    let mut violations = Vec::new();
    for (path, line) in paths(&file.text).named {
        let used = path.first().map(|word| word.replace('_', "-")).unwrap_or_default();
        let is_ours = ALLOWED.iter().any(|(package, _)| *package == used);
        if is_ours && path.len() > 1 && !is_allowed(&used) {
            let what = format!("{user} must not import from {used}, which is above it");
            violations.push(Violation::at(file, line, what));
        }
    }
    violations
}

/// The package that a Rust file belongs to.
fn package_of(path: &str) -> Option<String> {
    if !path.ends_with(".rs") {
        return None;
    }
    let target = TARGETS.iter().find(|(folder, _)| path.starts_with(folder));
    if let Some((_, package)) = target {
        return Some((*package).to_owned());
    }
    let (folder, _) = path.strip_prefix("crates/")?.split_once('/')?;
    Some(match folder {
        "dunlin" | "xtask" => folder.to_owned(),
        other => format!("dunlin-{other}"),
    })
}

/// `core`'s dependency tree, one package a line, holds none of the crates that would end its purity.
pub(super) fn check_core_tree(tree: &str) -> Vec<Violation> {
    let packages: BTreeSet<_> =
        tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let found = NOT_IN_CORE.iter().filter(|&name| packages.contains(name));
    found
        .map(|name| Violation::new("dunlin-core", format!("its dependency tree holds {name}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(user: &str, used: &[&str]) -> Vec<String> {
        let used = used.iter().map(|&name| name.to_owned()).collect();
        check(&[(user.to_owned(), used)]).iter().map(Violation::to_string).collect()
    }

    #[test]
    fn the_designed_arrows_are_allowed() {
        assert!(found("dunlin-agent", &["dunlin-core", "dunlin-api"]).is_empty());
        assert!(found("dunlin", &["dunlin-agent", "dunlin-api"]).is_empty());
        assert!(found("dunlin-sim", &["dunlin-core"]).is_empty());
    }

    #[test]
    fn core_and_api_do_not_know_each_other() {
        assert_eq!(
            found("dunlin-core", &["dunlin-api"]),
            ["dunlin-core: must not depend on dunlin-api"]
        );
        assert_eq!(
            found("dunlin-api", &["dunlin-core"]),
            ["dunlin-api: must not depend on dunlin-core"]
        );
    }

    #[test]
    fn nothing_depends_on_the_binary() {
        assert!(ALLOWED.iter().all(|(_, allowed)| !allowed.contains(&"dunlin")));
    }

    #[test]
    fn an_import_that_points_up_is_found_with_its_line() {
        let of = |path: &str, text: &str| {
            let file = File { path: path.to_owned(), text: text.to_owned() };
            check_imports(&file).iter().map(Violation::to_string).collect::<Vec<_>>()
        };
        let text = "use dunlin_core::model;\n\nuse dunlin_agent::node::Node;\n";
        let expected = "crates/sim/src/a.rs:3: dunlin-sim must not import from dunlin-agent, which is above it";
        assert_eq!(of("crates/sim/src/a.rs", text), [expected]);
        assert_eq!(of("crates/dunlin/src/a.rs", text), [""; 0]);
        assert_eq!(of("tests/storm/a.rs", "use dunlin_bench::rig;"), [""; 0]);
        assert_eq!(of("tests/storm/a.rs", "use dunlin_api::client;").len(), 1);
        assert_eq!(of("fuzz/targets/a.rs", text), [""; 0]);
    }

    #[test]
    fn an_unknown_package_needs_a_row() {
        assert_eq!(found("dunlin-extra", &[]).len(), 1);
    }

    #[test]
    fn a_runtime_in_the_tree_of_core_is_found() {
        assert!(check_core_tree("dunlin-core v0.1.0 (crates/core)\nserde v1.0.0 (*)\n").is_empty());
        let violations = check_core_tree("dunlin-core v0.1.0\nserde v1.0.0\ntokio v1.40.0\n");
        assert_eq!(violations, [Violation::new("dunlin-core", "its dependency tree holds tokio")]);
    }
}
