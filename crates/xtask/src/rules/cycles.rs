//! The files of a crate have no dependency cycles, except between a module and its submodules.
//!
//! A module is composed of its submodules and gives them their context, so uses between these are not looked at. All
//! other files have an order: of two of them at most one depends on the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::modules::{ModulePath, Modules, Use, are_family, crates, shown};
use super::{File, Violation};

/// A use that closes a cycle and is tolerated for a while: the folder of the crate, the file that uses, and the file that
/// is used.
type Allowed = (&'static str, &'static str, &'static str);

/// Above each entry stands since when it is here, and what has to happen before it can go. A use that closes no cycle any
/// more has to be taken off the list.
const ALLOWED: &[Allowed] = &[];

/// Every crate among the files.
pub(super) fn check(files: &[File]) -> Vec<Violation> {
    crates(files).into_iter().flat_map(|folder| check_crate(folder, files, ALLOWED)).collect()
}

fn check_crate(folder: &str, files: &[File], allowed: &[Allowed]) -> Vec<Violation> {
    let mut uses = Modules::of(folder, files).uses();
    uses.retain(|one| !are_family(&one.user, &one.used));
    let own: Vec<&Allowed> = allowed.iter().filter(|(of, ..)| *of == folder).collect();
    let stale = own.iter().filter(|entry| !is_needed(entry, &uses));
    let mut violations: Vec<Violation> = stale.map(|entry| no_cycle(entry)).collect();
    uses.retain(|one| !own.iter().any(|entry| is_meant(entry, one)));
    violations.extend(cycles(&uses).iter().map(|cycle| violation(cycle)));
    violations
}

fn is_meant((_, user, used): &Allowed, one: &Use) -> bool {
    shown(&one.user) == *user && shown(&one.used) == *used
}

/// Whether the use is there, and leads back to where it comes from.
fn is_needed(entry: &Allowed, uses: &[Use]) -> bool {
    let graph = graph(uses);
    uses.iter().any(|one| is_meant(entry, one) && path(&graph, &one.used, &one.user).is_some())
}

type Graph<'a> = BTreeMap<&'a ModulePath, Vec<&'a Use>>;

fn graph(uses: &[Use]) -> Graph<'_> {
    let mut graph = Graph::new();
    for one in uses {
        graph.entry(&one.user).or_default().push(one);
    }
    graph
}

/// A shortest cycle through each file that is on one, except for files that another cycle shows already.
fn cycles(uses: &[Use]) -> Vec<Vec<&Use>> {
    let graph = graph(uses);
    let mut shown = BTreeSet::new();
    let mut found = Vec::new();
    for file in graph.keys() {
        if shown.contains(file) {
            continue;
        }
        if let Some(cycle) = path(&graph, file, file) {
            shown.extend(cycle.iter().map(|one| &one.user));
            found.push(cycle);
        }
    }
    found
}

/// A shortest path of at least one use.
fn path<'a>(graph: &Graph<'a>, from: &ModulePath, to: &ModulePath) -> Option<Vec<&'a Use>> {
    let mut paths: VecDeque<Vec<&Use>> = VecDeque::from([Vec::new()]);
    let mut seen = BTreeSet::new();
    while let Some(path) = paths.pop_front() {
        let here = path.last().map_or(from, |last: &&Use| &last.used);
        for &next in graph.get(here).into_iter().flatten() {
            let longer = [&path[..], &[next]].concat();
            if next.used == *to {
                return Some(longer);
            }
            if seen.insert(&next.used) {
                paths.push_back(longer);
            }
        }
    }
    None
}

fn no_cycle((folder, user, used): &Allowed) -> Violation {
    let advice = "take it off the list in cycles.rs";
    Violation::new(*folder, format!("{user} → {used} closes no cycle any more; {advice}"))
}

fn violation(cycle: &[&Use]) -> Violation {
    let users = cycle.iter().chain(cycle.first()).map(|one| shown(&one.user));
    let users: Vec<String> = users.collect();
    let places: Vec<&str> = cycle.iter().map(|one| one.at.as_str()).collect();
    let (users, all) = (users.join(" → "), places.join(", "));
    Violation::new(places[0], format!("a dependency cycle of files: {users} ({all})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: format!("c/src/{path}"), text: text.to_owned() }
    }

    fn found(files: &[File], allowed: &[Allowed]) -> Vec<String> {
        check_crate("c/src", files, allowed).iter().map(Violation::to_string).collect()
    }

    fn cycle() -> [File; 4] {
        [
            file("lib.rs", "mod a;\nmod b;\nmod c;"),
            file("a.rs", "\nuse crate::b::B;"),
            file("b.rs", "use super::c::C;"),
            file("c.rs", "use crate::a;"),
        ]
    }

    #[test]
    fn a_cycle_is_found_with_the_uses_that_make_it() {
        let expected = "c/src/a.rs:2: a dependency cycle of files: a → b → c → a \
                        (c/src/a.rs:2, c/src/b.rs:1, c/src/c.rs:1)";
        assert_eq!(found(&cycle(), &[]), [expected]);
    }

    #[test]
    fn a_module_and_its_submodules_may_use_each_other() {
        let files = [
            file("lib.rs", "mod a;\nuse a::b::B;"),
            file("a.rs", "mod b;\nuse b::B;\npub struct A;"),
            file("a/b.rs", "use super::A;\nuse crate::root;"),
        ];
        assert_eq!(found(&files, &[]), [""; 0]);
    }

    #[test]
    fn submodules_of_the_same_module_may_not() {
        let files = [
            file("lib.rs", "mod a;"),
            file("a.rs", "mod b;\nmod c;\nuse c::C;"),
            file("a/b.rs", "use super::C;"),
            file("a/c.rs", "pub struct C;\nfn f() { super::b::g() }"),
        ];
        assert_eq!(found(&files, &[]).len(), 1);
    }

    #[test]
    fn layers_are_no_cycle() {
        let files = [
            file("lib.rs", "mod a;\nmod b;\nmod c;"),
            file("a.rs", "use crate::{b::B, c::C};"),
            file("b.rs", "use crate::c::C;"),
            file("c.rs", "#[cfg(test)]\nmod tests { use crate::a::A; }"),
        ];
        assert_eq!(found(&files, &[]), [""; 0]);
    }

    #[test]
    fn a_use_on_the_list_is_left_out_for_as_long_as_it_closes_a_cycle() {
        let entry = ("c/src", "c", "a");
        assert_eq!(found(&cycle(), &[entry]), [""; 0]);
        let stale = found(&cycle()[..3], &[entry]);
        assert_eq!(
            stale,
            ["c/src: c → a closes no cycle any more; take it off the list in cycles.rs"]
        );
    }
}
