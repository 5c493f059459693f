//! Files of a crate do not use each other in a circle, except that a module and those within it may.
//!
//! A module is composed of those within it and gives them their context, so uses between these are no layers and are
//! not looked at. Everything else has an order: of two other files at most one needs the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::modules::{Modules, Place, Use, are_family, crates, shown};
use super::{File, Violation};

/// A use that closes a circle and may stay for a while. The entry goes when the use does.
struct Allowed {
    /// The folder of the crate.
    folder: &'static str,
    user: &'static str,
    used: &'static str,
    /// Since when, and what has to happen before it can go.
    #[expect(dead_code, reason = "it is for people")]
    reason: &'static str,
}

const ALLOWED: &[Allowed] = &[
    Allowed {
        folder: "crates/core/src",
        user: "catalog::by_name",
        used: "catalog::view",
        reason: "2026-11-28: the index of services names what it holds; it could hold anything with a name",
    },
    Allowed {
        folder: "crates/core/src",
        user: "catalog::view",
        used: "catalog::nodes",
        reason: "2026-11-28: what a view says of a node is defined beside the index of nodes",
    },
    Allowed {
        folder: "crates/core/src",
        user: "catalog::guard",
        used: "catalog::refresh",
        reason: "2026-11-28: the guard becomes a machine of its own",
    },
    Allowed {
        folder: "crates/core/src",
        user: "dns::answer",
        used: "dns::record",
        reason: "2026-11-28: the rank of a record belongs to what orders an answer",
    },
    Allowed {
        folder: "crates/core/src",
        user: "gossip::frame",
        used: "gossip::exchange",
        reason: "2026-11-28: what a Hello holds belongs to the frames",
    },
    Allowed {
        folder: "crates/core/src",
        user: "health::alias",
        used: "health::scheduler",
        reason: "2026-11-28: the key of a check belongs to the check",
    },
    Allowed {
        folder: "crates/core/src",
        user: "health::check",
        used: "health::scheduler",
        reason: "2026-11-28: the id of a run belongs to the check",
    },
    Allowed {
        folder: "crates/agent/src",
        user: "watchdog",
        used: "handle",
        reason: "2026-11-28: the watchdog needs the vitals alone, not all that is shared",
    },
    Allowed {
        folder: "crates/agent/src",
        user: "net::link",
        used: "net::connect",
        reason: "2026-11-28: links become the business of gossip, connecting that of the transport",
    },
    Allowed {
        folder: "crates/agent/src",
        user: "net::event",
        used: "net::link",
        reason: "2026-11-28: an event would do with a handle of a link",
    },
    Allowed {
        folder: "crates/agent/src",
        user: "net::tls::certificate",
        used: "net::tls::verify",
        reason: "2026-11-28: why a certificate is not taken belongs to the certificate",
    },
    Allowed {
        folder: "crates/sim/src",
        user: "client",
        used: "world",
        reason: "2026-11-28: a client could be given what it needs of the world",
    },
    Allowed {
        folder: "crates/sim/src",
        user: "faults",
        used: "world",
        reason: "2026-11-28: a fault could be given what it needs of the world",
    },
    Allowed {
        folder: "crates/sim/src",
        user: "world",
        used: "sweep",
        reason: "2026-11-28: the world counts for the sweep that runs it",
    },
    Allowed {
        folder: "crates/sim/src",
        user: "oracle",
        used: "invariants",
        reason: "2026-11-28: a violation belongs to neither",
    },
    Allowed {
        folder: "crates/sim/src",
        user: "oracle",
        used: "invariants::acknowledged",
        reason: "2026-11-28: the oracle judges by an invariant that asks it",
    },
    Allowed {
        folder: "crates/sim/src",
        user: "node::commits",
        used: "node::agent",
        reason: "2026-11-28: the copy of the driver gives way to the engine",
    },
    Allowed {
        folder: "crates/sim/src",
        user: "node::links",
        used: "node::agent",
        reason: "2026-11-28: the copy of the driver gives way to the engine",
    },
];

/// Every crate among the files.
pub(super) fn check(files: &[File]) -> Vec<Violation> {
    crates(files).into_iter().flat_map(|folder| check_crate(folder, files, ALLOWED)).collect()
}

fn check_crate(folder: &str, files: &[File], allowed: &[Allowed]) -> Vec<Violation> {
    let mut uses = Modules::of(folder, files).uses();
    uses.retain(|one| !are_family(&one.user, &one.used));
    let own: Vec<&Allowed> = allowed.iter().filter(|entry| entry.folder == folder).collect();
    let stale = own.iter().filter(|entry| !is_needed(entry, &uses)).map(
        |Allowed { user, used, .. }| {
            Violation::new(
                folder,
                format!(
                    "{user} → {used} closes no circle any more; take it off the list in cycles.rs"
                ),
            )
        },
    );
    let mut violations: Vec<Violation> = stale.collect();
    uses.retain(|one| !own.iter().any(|entry| is_meant(entry, one)));
    violations.extend(circles(&uses).iter().map(|circle| violation(circle)));
    violations
}

fn is_meant(entry: &Allowed, one: &Use) -> bool {
    shown(&one.user) == entry.user && shown(&one.used) == entry.used
}

/// Whether the use is there, and leads back to where it comes from.
fn is_needed(entry: &Allowed, uses: &[Use]) -> bool {
    let graph = graph(uses);
    uses.iter().any(|one| is_meant(entry, one) && way(&graph, &one.used, &one.user).is_some())
}

type Graph<'a> = BTreeMap<&'a Place, Vec<&'a Use>>;

fn graph(uses: &[Use]) -> Graph<'_> {
    let mut graph = Graph::new();
    for one in uses {
        graph.entry(&one.user).or_default().push(one);
    }
    graph
}

/// A shortest circle through each file that is on one, but for files that another one of them shows already.
fn circles(uses: &[Use]) -> Vec<Vec<&Use>> {
    let graph = graph(uses);
    let mut shown = BTreeSet::new();
    let mut found = Vec::new();
    for file in graph.keys() {
        if shown.contains(file) {
            continue;
        }
        if let Some(circle) = way(&graph, file, file) {
            shown.extend(circle.iter().map(|one| &one.user));
            found.push(circle);
        }
    }
    found
}

/// A shortest way of at least one use.
fn way<'a>(graph: &Graph<'a>, from: &Place, to: &Place) -> Option<Vec<&'a Use>> {
    let mut ways: VecDeque<Vec<&Use>> = VecDeque::from([Vec::new()]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        let here = way.last().map_or(from, |last: &&Use| &last.used);
        for &next in graph.get(here).into_iter().flatten() {
            let longer = [&way[..], &[next]].concat();
            if next.used == *to {
                return Some(longer);
            }
            if seen.insert(&next.used) {
                ways.push_back(longer);
            }
        }
    }
    None
}

fn violation(circle: &[&Use]) -> Violation {
    let files = circle.iter().map(|one| format!("{} → ", shown(&one.user))).collect::<String>();
    let first = circle.first().map_or_else(String::new, |one| shown(&one.user));
    let places: Vec<&str> = circle.iter().map(|one| one.at.as_str()).collect();
    Violation::new(
        places[0],
        format!("files use each other in a circle: {files}{first} ({})", places.join(", ")),
    )
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

    fn circle() -> [File; 4] {
        [
            file("lib.rs", "mod a;\nmod b;\nmod c;"),
            file("a.rs", "\nuse crate::b::B;"),
            file("b.rs", "use super::c::C;"),
            file("c.rs", "use crate::a;"),
        ]
    }

    #[test]
    fn a_circle_is_found_with_the_uses_that_make_it() {
        let expected = "c/src/a.rs:2: files use each other in a circle: a → b → c → a \
                        (c/src/a.rs:2, c/src/b.rs:1, c/src/c.rs:1)";
        assert_eq!(found(&circle(), &[]), [expected]);
    }

    #[test]
    fn a_module_and_those_within_it_may_use_each_other() {
        let files = [
            file("lib.rs", "mod a;\nuse a::b::B;"),
            file("a.rs", "mod b;\nuse b::B;\npub struct A;"),
            file("a/b.rs", "use super::A;\nuse crate::root;"),
        ];
        assert_eq!(found(&files, &[]), [""; 0]);
    }

    #[test]
    fn modules_within_the_same_one_may_not() {
        let files = [
            file("lib.rs", "mod a;"),
            file("a.rs", "mod b;\nmod c;\nuse c::C;"),
            file("a/b.rs", "use super::C;"),
            file("a/c.rs", "pub struct C;\nfn f() { super::b::g() }"),
        ];
        assert_eq!(found(&files, &[]).len(), 1);
    }

    #[test]
    fn layers_are_no_circle() {
        let files = [
            file("lib.rs", "mod a;\nmod b;\nmod c;"),
            file("a.rs", "use crate::{b::B, c::C};"),
            file("b.rs", "use crate::c::C;"),
            file("c.rs", "#[cfg(test)]\nmod tests { use crate::a::A; }"),
        ];
        assert_eq!(found(&files, &[]), [""; 0]);
    }

    #[test]
    fn a_use_on_the_list_is_left_out_for_as_long_as_it_closes_a_circle() {
        let entry = |user, used| Allowed { folder: "c/src", user, used, reason: "" };
        assert_eq!(found(&circle(), &[entry("c", "a")]), [""; 0]);
        let stale = found(&circle()[..3], &[entry("c", "a")]);
        assert_eq!(
            stale,
            ["c/src: c → a closes no circle any more; take it off the list in cycles.rs"]
        );
    }
}
