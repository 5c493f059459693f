//! The paths that a Rust file names: in its `use` items and everywhere else.
//!
//! A small reader by hand that knows as much of the grammar as modules need. Code in `mod tests { … }` is left out.

use std::collections::{BTreeMap, BTreeSet};

use super::tokens::{Token, tokens};

/// A path of two words or more, or one that a `use` item names.
pub(super) type Path = Vec<String>;

/// What a file says of modules.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Paths {
    /// The modules that it declares to lie in files of their own.
    pub(super) declared: BTreeSet<String>,
    /// The names that its `use` items bring in, and where these come from.
    pub(super) imports: BTreeMap<String, Path>,
    /// Every path, and its line.
    pub(super) named: Vec<(Path, usize)>,
}

/// Reads a file.
pub(super) fn paths(text: &str) -> Paths {
    let tokens = tokens(text);
    let mut reader =
        Reader { tokens: &tokens, at: 0, inner: Vec::new(), depth: 0, found: Paths::default() };
    while reader.step() {}
    reader.found
}

struct Reader<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    /// The depths of braces at which modules within the file begin.
    inner: Vec<usize>,
    depth: usize,
    found: Paths,
}

impl Reader<'_> {
    fn text(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", |token| token.text)
    }

    /// Takes what comes next. Returns whether there is more.
    fn step(&mut self) -> bool {
        let Some(&token) = self.tokens.get(self.at) else { return false };
        match token.text {
            "{" => self.open(),
            "}" => self.close(),
            "mod" if self.text(2) == ";" => {
                self.found.declared.insert(self.text(1).to_owned());
                self.at += 3;
            }
            "mod" if self.text(1) == "tests" && self.text(2) == "{" => self.skip_block(),
            "mod" if self.text(2) == "{" => {
                self.inner.push(self.depth);
                self.at += 2;
            }
            "use" => {
                self.at += 1;
                self.use_tree(&Path::new());
            }
            _ if token.is_word() && self.text(1) == "::" => self.inline_path(),
            _ => self.at += 1,
        }
        true
    }

    fn open(&mut self) {
        self.depth += 1;
        self.at += 1;
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.inner.retain(|begun| *begun < self.depth);
        self.at += 1;
    }

    /// Passes over the block that begins after the next two tokens.
    fn skip_block(&mut self) {
        let mut depth = 0;
        self.at += 2;
        while let Some(token) = self.tokens.get(self.at) {
            self.at += 1;
            match token.text {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// Takes one tree of a `use` item, whose path begins with `prefix`.
    fn use_tree(&mut self, prefix: &Path) {
        let mut path = prefix.clone();
        while let Some(&token) = self.tokens.get(self.at) {
            self.at += 1;
            match token.text {
                "::" => {}
                "{" => {
                    while !matches!(self.text(0), "}" | "") {
                        self.use_tree(&path);
                    }
                    self.at += 1;
                    break;
                }
                "*" => {
                    self.name(path, token.line);
                    break;
                }
                _ if token.is_word() => {
                    path.push(token.text.to_owned());
                    if self.text(0) != "::" {
                        self.import(path, token.line);
                        break;
                    }
                }
                _ => break,
            }
        }
        if self.text(0) == "," {
            self.at += 1;
        }
    }

    /// Notes a path that a `use` item ends with, under the name that it gets.
    fn import(&mut self, mut path: Path, line: usize) {
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let mut name = path.last().cloned().unwrap_or_default();
        if self.text(0) == "as" {
            name = self.text(1).to_owned();
            self.at += 2;
        }
        let path = self.outermost(path);
        self.found.imports.insert(name, path.clone());
        self.found.named.push((path, line));
    }

    fn inline_path(&mut self) {
        let line = self.tokens[self.at].line;
        // What follows `$crate` or a generic type is another path's end.
        let is_start = self.at == 0 || !matches!(self.tokens[self.at - 1].text, "::" | "$");
        let mut path = vec![self.text(0).to_owned()];
        self.at += 1;
        while self.text(0) == "::" && self.tokens.get(self.at + 1).is_some_and(Token::is_word) {
            path.push(self.text(1).to_owned());
            self.at += 2;
        }
        if is_start && path.len() > 1 {
            self.name(path, line);
        }
    }

    fn name(&mut self, path: Path, line: usize) {
        let path = self.outermost(path);
        self.found.named.push((path, line));
    }

    /// A path as it would stand outside of the modules within the file.
    fn outermost(&self, path: Path) -> Path {
        let inner = self.inner.len();
        let supers = path.iter().take_while(|word| *word == "super").count();
        match supers {
            0 => path,
            supers if supers > inner => path[inner..].to_vec(),
            supers => {
                ["self".to_owned()].into_iter().chain(path[supers..].iter().cloned()).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(source: &str) -> Vec<String> {
        paths(source).named.into_iter().map(|(path, _)| path.join("::")).collect()
    }

    #[test]
    fn a_use_tree_is_all_the_paths_in_it() {
        let source = "use crate::a::{self, B, c::{D, E as F}, g::*};\nuse super::h;";
        let expected = [
            "crate::a",
            "crate::a::B",
            "crate::a::c::D",
            "crate::a::c::E",
            "crate::a::g",
            "super::h",
        ];
        assert_eq!(named(source), expected);
        let imports = paths(source).imports;
        assert_eq!(imports["a"], ["crate", "a"]);
        assert_eq!(imports["F"], ["crate", "a", "c", "E"]);
        assert!(!imports.contains_key("E"));
    }

    #[test]
    fn paths_outside_of_use_items_count() {
        let source =
            "pub(in crate::x) fn f(a: &'a crate::y::A) -> super::B { z::g::<u8>(\"crate::no\") }";
        assert_eq!(named(source), ["crate::x", "crate::y::A", "super::B", "z::g"]);
        assert_eq!(named("$crate::a::b(); Vec::<u8>::new()"), ["crate::a::b"; 0]);
    }

    #[test]
    fn modules_in_files_of_their_own_are_declared() {
        let found = paths("mod a;\npub(crate) mod b;\nmod c { use super::d; }\n");
        assert_eq!(found.declared, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
        assert_eq!(found.imports["d"], ["self", "d"]);
    }

    #[test]
    fn behind_a_module_within_the_file_super_means_the_parent_again() {
        assert_eq!(
            named("mod c { mod e { use super::super::super::f; } } use super::g;"),
            ["super::f", "super::g"]
        );
    }

    #[test]
    fn tests_may_name_what_they_like() {
        assert_eq!(
            named("use super::a;\nmod tests { use crate::b; fn f() {} }\nuse super::c;"),
            ["super::a", "super::c"]
        );
    }

    #[test]
    fn lines_are_known() {
        assert_eq!(
            paths("\n\nuse super::a;").named,
            [(vec!["super".to_owned(), "a".to_owned()], 3)]
        );
    }
}
