//! The files of one crate, and which of them uses which.

use std::collections::{BTreeMap, BTreeSet};

use super::File;
use super::paths::{Path, Paths, paths};

/// The place of a module in its crate; that of the root is empty.
pub(super) type ModulePath = Vec<String>;

/// Files of one crate.
pub(super) struct Modules<'a> {
    files: BTreeMap<ModulePath, Module<'a>>,
}

struct Module<'a> {
    file: &'a File,
    paths: Paths,
}

/// One file uses another.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Use {
    pub(super) user: ModulePath,
    pub(super) used: ModulePath,
    /// File and line of the first use.
    pub(super) at: String,
}

/// Imports of imports are followed this far.
const MAX_HOPS: usize = 12;

/// The folders of crates: those of files named `lib.rs` and `main.rs`.
pub(super) fn crates(files: &[File]) -> BTreeSet<&str> {
    let roots = files.iter().filter_map(|file| {
        let (folder, name) = file.path.rsplit_once('/')?;
        matches!(name, "lib.rs" | "main.rs").then_some(folder)
    });
    roots.collect()
}

/// A place as Rust writes it.
pub(super) fn shown(place: &ModulePath) -> String {
    if place.is_empty() { "crate".to_owned() } else { place.join("::") }
}

/// Whether one of two places lies within the other.
pub(super) fn are_family(a: &ModulePath, b: &ModulePath) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

impl<'a> Modules<'a> {
    /// The modules of the crate in a folder. Files of tests are left out.
    pub(super) fn of(folder: &str, files: &'a [File]) -> Self {
        let mut modules = BTreeMap::new();
        for file in files {
            let Some(place) = place(folder, &file.path) else { continue };
            let module = Module { file, paths: paths(&file.text) };
            // A library and a binary in one folder have the same root.
            match modules.get_mut(&place) {
                None => drop(modules.insert(place, module)),
                Some(Module { paths, .. }) => paths.declared.extend(module.paths.declared),
            }
        }
        Self { files: modules }
    }

    /// Every use of another file, each once.
    pub(super) fn uses(&self) -> Vec<Use> {
        let mut uses = Vec::new();
        for (user, module) in &self.files {
            let mut seen = BTreeSet::from([user.clone()]);
            for (path, line) in &module.paths.named {
                let Some(used) = self.resolve(user, path, 0) else { continue };
                if seen.insert(used.clone()) {
                    let at = format!("{}:{line}", module.file.path);
                    uses.push(Use { user: user.clone(), used, at });
                }
            }
        }
        uses
    }

    /// The file that holds what a path in `from` names; none if that is in another crate.
    fn resolve(&self, from: &ModulePath, path: &[String], hops: usize) -> Option<ModulePath> {
        let (first, rest) = path.split_first()?;
        let own = self.files.get(from)?;
        match first.as_str() {
            "crate" => Some(self.descend(ModulePath::new(), rest, hops)),
            "self" => Some(self.descend(from.clone(), rest, hops)),
            "super" => Some(self.descend(parent(from)?, rest, hops)),
            name if own.paths.declared.contains(name) => {
                Some(self.descend(from.clone(), path, hops))
            }
            name => self.follow(from, own.paths.imports.get(name)?, rest, hops),
        }
    }

    /// The file that holds what `rest` names in the module at `place`.
    fn descend(&self, place: ModulePath, rest: &[String], hops: usize) -> ModulePath {
        let Some((first, rest)) = rest.split_first() else { return place };
        if first == "super" {
            return parent(&place).map_or(place, |parent| self.descend(parent, rest, hops));
        }
        let child: ModulePath = place.iter().chain([first]).cloned().collect();
        if self.files.contains_key(&child) {
            return self.descend(child, rest, hops);
        }
        let import = self.files.get(&place).and_then(|module| module.paths.imports.get(first));
        import.and_then(|import| self.follow(&place, import, rest, hops)).unwrap_or(place)
    }

    /// Goes on where an import of the module at `place` comes from.
    fn follow(
        &self,
        place: &ModulePath,
        import: &Path,
        rest: &[String],
        hops: usize,
    ) -> Option<ModulePath> {
        if hops == MAX_HOPS {
            return None;
        }
        let path: Path = import.iter().chain(rest).cloned().collect();
        self.resolve(place, &path, hops + 1)
    }
}

fn parent(place: &ModulePath) -> Option<ModulePath> {
    let (_, parent) = place.split_last()?;
    Some(parent.to_vec())
}

/// The place of a file in the crate of a folder; none if it is not part of it, or a test.
fn place(folder: &str, path: &str) -> Option<ModulePath> {
    let inner = path.strip_prefix(folder)?.strip_prefix('/')?.strip_suffix(".rs")?;
    let mut place: ModulePath = inner.split('/').map(str::to_owned).collect();
    let is_root = place.len() == 1 && matches!(inner, "lib" | "main");
    if is_root || place.last().is_some_and(|last| last == "mod") {
        place.pop();
    }
    let is_other =
        place.iter().any(|name| name == "tests") || place.first().is_some_and(|name| name == "bin");
    (!is_other).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    fn uses(files: &[File]) -> Vec<String> {
        let uses = Modules::of("c/src", files).uses();
        uses.iter().map(|one| format!("{} → {}", shown(&one.user), shown(&one.used))).collect()
    }

    #[test]
    fn a_path_leads_to_the_file_that_holds_what_it_names() {
        let files = [
            file("c/src/lib.rs", "mod a;\nmod b;"),
            file("c/src/a.rs", "use crate::b::Thing;"),
            file("c/src/b.rs", "pub struct Thing;"),
        ];
        assert_eq!(uses(&files), ["a → b"]);
    }

    #[test]
    fn a_name_that_is_passed_on_is_used_where_it_comes_from() {
        let files = [
            file("c/src/lib.rs", "mod a;\nmod b;\npub use b::Thing;"),
            file("c/src/a.rs", "use crate::Thing;\nfn f() { super::b::inner::g() }"),
            file("c/src/b.rs", "pub mod inner;\npub use inner::Thing;"),
            file("c/src/b/inner.rs", "pub struct Thing;"),
        ];
        assert_eq!(uses(&files), ["crate → b::inner", "a → b::inner", "b → b::inner"]);
    }

    #[test]
    fn imports_in_a_cycle_end() {
        let files = [
            file("c/src/lib.rs", "mod a;\nmod b;"),
            file("c/src/a.rs", "pub use crate::b::Thing;"),
            file("c/src/b.rs", "pub use crate::a::Thing;"),
        ];
        assert_eq!(uses(&files).len(), 2);
    }

    #[test]
    fn other_crates_tests_and_other_folders_are_left_out() {
        let files = [
            file("c/src/main.rs", "mod a;"),
            file("c/src/a.rs", "use std::fmt;\nuse serde::Serialize;\nmod tests;"),
            file("c/src/a/tests.rs", "use crate::a::A;"),
            file("d/src/b.rs", "use crate::a::A;"),
        ];
        assert_eq!(uses(&files), [""; 0]);
        assert_eq!(crates(&files), BTreeSet::from(["c/src"]));
    }
}
