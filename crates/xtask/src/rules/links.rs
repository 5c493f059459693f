//! Links between the documents lead somewhere.
//!
//! Only relative links are checked, since pages of the web are not under our control. Anchors and links within code are
//! not checked.

use std::path::Path;

use super::{File, Violation};

const SUMMARY: &str = "docs/src/SUMMARY.md";

/// Every relative link of a Markdown file names something that `exists`.
pub(super) fn check(file: &File, exists: impl Fn(&Path) -> bool) -> Vec<Violation> {
    if !file.path.ends_with(".md") {
        return Vec::new();
    }
    let folder = Path::new(&file.path).parent().unwrap_or(Path::new(""));
    let links = links(&file.text).into_iter();
    let broken =
        links.filter(|(_, target)| is_relative(target) && !exists(&folder.join(path_of(target))));
    broken
        .map(|(line, target)| {
            Violation::at(file, line, format!("the link to {target} leads nowhere"))
        })
        .collect()
}

/// Every page of the book is in its table of contents; mdBook silently leaves out the others.
pub(super) fn check_summary(files: &[File]) -> Vec<Violation> {
    let summary = files.iter().find(|file| file.path == SUMMARY);
    let listed = summary.map(|file| links(&file.text)).unwrap_or_default();
    let is_page = |file: &&File| file.path.starts_with("docs/src/") && file.path.ends_with(".md");
    let is_listed = |file: &File| {
        listed
            .iter()
            .any(|(_, target)| file.path.strip_prefix("docs/src/") == Some(path_of(target)))
    };
    let pages = files.iter().filter(is_page).filter(|file| file.path != SUMMARY);
    let lost = pages.filter(|file| !is_listed(file));
    lost.map(|file| Violation::new(&file.path, format!("a page that {SUMMARY} does not list")))
        .collect()
}

/// The targets of all links and link definitions, with their line numbers.
fn links(markdown: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_fence = false;
    for (index, line) in markdown.lines().enumerate() {
        let start = line.trim_start();
        if start.starts_with("```") || start.starts_with("~~~") {
            in_fence = !in_fence;
        } else if !in_fence {
            let targets = inline_links(line).chain(definition(start));
            found.extend(targets.map(|target| (index + 1, target)));
        }
    }
    found
}

/// The targets of `[text](target)` outside of code spans.
fn inline_links(line: &str) -> impl Iterator<Item = &str> {
    let ends = line.match_indices("](").map(|(at, found)| (at, at + found.len()));
    let outside_code = ends.filter(|(at, _)| line[..*at].matches('`').count().is_multiple_of(2));
    outside_code.filter_map(|(_, end)| {
        let (inside, _) = line[end..].split_once(')')?;
        without_title(inside)
    })
}

/// The target of `[label]: target`.
fn definition(line: &str) -> Option<&str> {
    let (_, target) = line.strip_prefix('[')?.split_once("]:")?;
    without_title(target)
}

fn without_title(target: &str) -> Option<&str> {
    let target = target.split_whitespace().next()?;
    Some(target.trim_start_matches('<').trim_end_matches('>'))
}

fn is_relative(target: &str) -> bool {
    !target.starts_with('#') && !target.starts_with("mailto:") && !target.contains("://")
}

fn path_of(target: &str) -> &str {
    target.split('#').next().unwrap_or(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, text: &str) -> Vec<String> {
        let file = File { path: path.to_owned(), text: text.to_owned() };
        let there = ["README.md", "docs/src/checks.md", "docs/src/../adr"];
        let exists = |path: &Path| there.iter().any(|known| path == Path::new(known));
        check(&file, exists).iter().map(Violation::to_string).collect()
    }

    #[test]
    fn a_link_to_a_missing_file_is_found_with_its_line() {
        let expected = ["docs/src/guard.md:2: the link to chekcs.md leads nowhere"];
        assert_eq!(broken("docs/src/guard.md", "See\n[checks](chekcs.md)."), expected);
    }

    #[test]
    fn links_to_files_folders_anchors_and_the_web_are_fine() {
        let text = "[a](checks.md#tcp \"title\"), [b](../adr/), [c](#here), [d](https://example.org/x.md)\n\
                    [e]: <checks.md>\n";
        assert_eq!(broken("docs/src/guard.md", text), [""; 0]);
    }

    #[test]
    fn links_are_relative_to_their_own_file() {
        assert_eq!(broken("README.md", "[checks](checks.md)").len(), 1);
        assert_eq!(broken("README.md", "[checks](docs/src/checks.md)").len(), 0);
    }

    #[test]
    fn a_definition_is_a_link() {
        assert_eq!(broken("README.md", "[checks]: nowhere.md").len(), 1);
    }

    #[test]
    fn code_holds_no_links() {
        let text = "`[a](b)`\n```toml\n[x](y)\n```\n[z](w)";
        assert_eq!(broken("README.md", text), ["README.md:5: the link to w leads nowhere"]);
    }

    #[test]
    fn other_files_hold_no_links() {
        assert_eq!(broken("src/main.rs", "[a](b)"), [""; 0]);
    }

    #[test]
    fn a_page_that_the_summary_forgets_is_found() {
        let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
        let files = [
            file(SUMMARY, "- [Checks](checks.md)"),
            file("docs/src/checks.md", ""),
            file("docs/src/guard.md", ""),
            file("docs/adr/0000-x.md", ""),
        ];
        let places: Vec<_> = check_summary(&files).into_iter().map(|found| found.place).collect();
        assert_eq!(places, ["docs/src/guard.md"]);
    }
}
