//! Rules about single lines: words that must not be there, and pauses in tests.
//!
//! Names that code must not use are clippy's business (`disallowed-methods` and `disallowed-types` in `clippy.toml`). The
//! rules here are about files of any kind, and about a call that is forbidden in tests alone, which clippy cannot tell.

use super::{File, Violation};

/// Words that mark unfinished work, which belongs into the tracker and not into the tree.
const UNFINISHED: &[&str] = &["TODO", "FIXME", "XXX"];

/// Folders of one person's machine.
const PERSONAL: &[&str] = &["/home/", "/root/", "/Users/"];

/// The folder of these rules, which have to name what they forbid.
const RULES: &str = "crates/xtask/src/rules";

/// Checks every line of a file against every rule about lines.
pub(super) fn check(file: &File) -> Vec<Violation> {
    if file.path.starts_with(RULES) || file.path == "Cargo.lock" {
        return Vec::new();
    }
    let mut violations = Vec::new();
    let mut in_tests = is_test_file(&file.path);
    let mut previous = "";
    for (index, line) in file.text.lines().enumerate() {
        in_tests |= line.trim_start().starts_with("mod tests {");
        let pause = is_rust(&file.path) && in_tests && is_unexplained_pause(previous, line);
        let pause = pause.then(|| {
            "a pause in a test; wait for the thing itself, or give the reason in `// pause: …`"
                .to_owned()
        });
        let found = [forbidden_word(line), pause].into_iter().flatten();
        violations.extend(found.map(|what| Violation::at(file, index + 1, what)));
        previous = line;
    }
    violations
}

fn forbidden_word(line: &str) -> Option<String> {
    if let Some(word) = UNFINISHED.iter().find(|word| holds_word(line, word)) {
        return Some(format!("{word}: finish it or file it"));
    }
    let path = PERSONAL.iter().find(|path| holds_absolute(line, path))?;
    Some(format!("a path below {path} exists on one machine only"))
}

fn is_unexplained_pause(previous: &str, line: &str) -> bool {
    let sleeps = code(line).contains("sleep(");
    sleeps
        && !holds_reason(line)
        && !(previous.trim_start().starts_with("//") && holds_reason(previous))
}

fn holds_reason(line: &str) -> bool {
    line.split_once("// pause:").is_some_and(|(_, reason)| !reason.trim().is_empty())
}

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// The line without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

fn holds_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.split(|c| !part_of_word(c)).any(|found| found == word)
}

/// Whether `path` starts somewhere in the line, rather than going on there as in `example.org/home/`.
fn holds_absolute(line: &str, path: &str) -> bool {
    let goes_on = |c: char| c.is_alphanumeric() || "._-~*}>".contains(c);
    line.match_indices(path).any(|(at, _)| !line[..at].ends_with(goes_on))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<String> {
        let file = File { path: path.to_owned(), text: text.to_owned() };
        check(&file).into_iter().map(|violation| violation.place).collect()
    }

    #[test]
    fn unfinished_work_is_found_wherever_it_is() {
        assert_eq!(lines("README.md", "fine\nTODO: the rest"), ["README.md:2"]);
        assert_eq!(lines(".ci/run", "# FIXME(me)"), [".ci/run:1"]);
        assert_eq!(lines("a.rs", "let dir = mktemp(\"XXXXXX\"); // todo list, TODOS"), [""; 0]);
    }

    #[test]
    fn personal_folders_are_found_but_not_parts_of_addresses() {
        assert_eq!(lines("a.toml", "dir = \"/home/me\""), ["a.toml:1"]);
        assert_eq!(lines("a.md", "cd /root/x"), ["a.md:1"]);
        assert_eq!(lines("a.md", "https://example.org/home/ and ${BASE}/root/x"), [""; 0]);
    }

    #[test]
    fn a_pause_in_a_test_needs_a_reason() {
        let sleep = "    thread::sleep(TICK);";
        assert_eq!(lines("tests/e2e/main.rs", sleep), ["tests/e2e/main.rs:1"]);
        assert_eq!(lines("crates/a/src/b/tests.rs", sleep), ["crates/a/src/b/tests.rs:1"]);
        assert_eq!(
            lines("crates/a/src/b.rs", &format!("{sleep}\nmod tests {{\n{sleep}")),
            ["crates/a/src/b.rs:3"]
        );
        assert_eq!(
            lines("tests/e2e/main.rs", &format!("{sleep} // pause:")),
            ["tests/e2e/main.rs:1"]
        );
    }

    #[test]
    fn a_pause_with_a_reason_is_allowed() {
        let sleep = "thread::sleep(TICK);";
        assert_eq!(
            lines("tests/a.rs", &format!("{sleep} // pause: polls until the deadline")),
            [""; 0]
        );
        assert_eq!(lines("tests/a.rs", &format!("// pause: between two polls\n{sleep}")), [""; 0]);
        assert_eq!(lines("crates/a/src/b.rs", sleep), [""; 0]);
    }
}
