//! The paths that a Rust file names: in its `use` items and everywhere else.
//!
//! `proc-macro2` splits a file into tokens; this reader knows as much of the grammar above them as modules need. Code in
//! `mod tests { … }` is left out.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Spacing, TokenStream, TokenTree};

/// A path of two words or more, or one that a `use` item names.
pub(super) type Path = Vec<String>;

/// The modules, imports and paths of a file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Paths {
    /// The modules that it declares to lie in files of their own.
    pub(super) declared: BTreeSet<String>,
    /// The names that its `use` items bring in, and where these come from.
    pub(super) imports: BTreeMap<String, Path>,
    /// Every path, and its line.
    pub(super) named: Vec<(Path, usize)>,
}

/// Reads a file. A file that is not valid Rust names nothing, since the compiler will complain about it.
pub(super) fn paths(text: &str) -> Paths {
    let mut found = Paths::default();
    found.read(text.parse().unwrap_or_default(), 0);
    found
}

impl Paths {
    /// Reads tokens that stand within `inner` modules of the file.
    fn read(&mut self, tokens: TokenStream, inner: usize) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut rest = &tokens[..];
        while let [first, after @ ..] = rest {
            rest = match (first, after) {
                (TokenTree::Group(group), _) => {
                    self.read(group.stream(), inner);
                    after
                }
                (TokenTree::Ident(word), [TokenTree::Ident(name), body, after @ ..])
                    if word == "mod" =>
                {
                    self.module(&name.to_string(), body, inner);
                    after
                }
                (TokenTree::Ident(word), _) if word == "use" => self.use_tree(&[], after, inner),
                (TokenTree::Ident(_), _) => {
                    let (path, line, after) = chain(rest);
                    if path.len() > 1 {
                        self.name(path, line, inner);
                    }
                    after
                }
                // What follows `$crate` or a generic type is another path's end.
                _ if is_sign(first, '$') => chain(after).2,
                _ => after_colons(rest).map_or(after, |after| chain(after).2),
            };
        }
    }

    fn module(&mut self, name: &str, body: &TokenTree, inner: usize) {
        if let TokenTree::Group(body) = body {
            if name != "tests" {
                self.read(body.stream(), inner + 1);
            }
        } else {
            self.declared.insert(name.to_owned());
        }
    }

    /// Takes one tree of a `use` item, whose path begins with `prefix`. Returns what follows it.
    fn use_tree<'a>(
        &mut self,
        prefix: &[String],
        tokens: &'a [TokenTree],
        inner: usize,
    ) -> &'a [TokenTree] {
        let (words, line, rest) = chain(tokens);
        let path = [prefix, &words].concat();
        match after_colons(rest).unwrap_or(rest) {
            [TokenTree::Group(trees), rest @ ..] => {
                let trees: Vec<TokenTree> = trees.stream().into_iter().collect();
                let mut left = &trees[..];
                while !left.is_empty() {
                    // The token between two trees is a comma.
                    left = self.use_tree(&path, left, inner).get(1..).unwrap_or_default();
                }
                rest
            }
            [star, rest @ ..] if is_sign(star, '*') => {
                self.name(path, line_of(star), inner);
                rest
            }
            _ => self.import(path, line, rest, inner),
        }
    }

    /// Notes a path that a `use` item ends with, under the name that it gets. Returns what follows.
    fn import<'a>(
        &mut self,
        mut path: Path,
        line: usize,
        rest: &'a [TokenTree],
        inner: usize,
    ) -> &'a [TokenTree] {
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let (name, rest) = match rest {
            [TokenTree::Ident(word), TokenTree::Ident(name), rest @ ..] if word == "as" => {
                (name.to_string(), rest)
            }
            _ => (path.last().cloned().unwrap_or_default(), rest),
        };
        self.imports.insert(name, outermost(&path, inner));
        self.name(path, line, inner);
        rest
    }

    fn name(&mut self, path: Path, line: usize, inner: usize) {
        self.named.push((outermost(&path, inner), line));
    }
}

/// A path as it would stand outside of the `inner` modules within the file that it stands in.
fn outermost(path: &[String], inner: usize) -> Path {
    let supers = path.iter().take_while(|word| *word == "super").count();
    match supers {
        0 => path.to_vec(),
        supers if supers > inner => path[inner..].to_vec(),
        supers => [&["self".to_owned()], &path[supers..]].concat(),
    }
}

/// The words that the tokens begin with, joined by `::`, the line of the last one, and what follows.
fn chain(tokens: &[TokenTree]) -> (Path, usize, &[TokenTree]) {
    let (mut path, mut line, mut rest) = (Path::new(), 0, tokens);
    let mut next = Some(tokens);
    while let Some([word @ TokenTree::Ident(_), after @ ..]) = next {
        path.push(word.to_string());
        (line, rest) = (line_of(word), after);
        next = after_colons(after);
    }
    (path, line, rest)
}

/// What follows the `::` that the tokens begin with.
fn after_colons(tokens: &[TokenTree]) -> Option<&[TokenTree]> {
    match tokens {
        [TokenTree::Punct(first), second, rest @ ..]
            if first.as_char() == ':'
                && first.spacing() == Spacing::Joint
                && is_sign(second, ':') =>
        {
            Some(rest)
        }
        _ => None,
    }
}

fn is_sign(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

fn line_of(token: &TokenTree) -> usize {
    token.span().start().line
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

    #[test]
    fn comments_and_literals_hold_no_paths() {
        let source = "a::a // b::b\n/* c::c\n */ \"d::d \\\" e::e\" r#\"f::f \" g\"# b\"h::h\" 'i' '\\'' '\"' j::j";
        assert_eq!(named(source), ["a::a", "j::j"]);
        assert_eq!(named("&'a str, 'b' r breed r#type c::c"), ["c::c"]);
    }

    #[test]
    fn lines_are_counted_through_comments_and_strings() {
        let found = paths("a::a\n/*\n*/ b::b \"\n\" c::c").named;
        assert_eq!(found.iter().map(|(_, line)| *line).collect::<Vec<_>>(), [1, 3, 4]);
    }
}
