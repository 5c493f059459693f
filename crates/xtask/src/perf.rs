//! Instructions per operation, counted by callgrind and compared with what the repository says.
//!
//! Time on a shared machine drifts by tens of percent, instructions do not. Each operation is done N times and twice as
//! often: the difference, divided by N, is what it costs.
//!
//! gungraun would replace one call of valgrind here. It needs a runner of the same version on each machine, and compares
//! with its own last run in the target folder, not with a file that is reviewed.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::run::{Cmd, Steps};
use crate::workspace::Workspace;

/// The file has a line for each operation, with its name and its count. Lines that begin with `#` are for people.
const FILE: &str = "docs/instructions.txt";
/// The percentage by which a count may grow unnoticed.
const MAX_GROWTH: u64 = 5;
/// Operations, and how often each is done.
const OPERATIONS: [(&str, u64); 6] = [
    ("dns-hit", 10_000),
    ("dns-miss", 2_000),
    ("dns-unknown", 2_000),
    ("publish", 1_000),
    ("lookup", 10_000),
    ("json", 1_000),
];

pub(crate) fn verify() -> Result<()> {
    let mut steps = Steps::default();
    let result = steps.check("instructions", "cargo xtask verify --perf", check);
    steps.print_summary();
    result
}

fn check() -> Result<()> {
    let valgrind = Cmd::new("valgrind", ["--version"]);
    if !valgrind.succeeds() {
        bail!(
            "valgrind is missing; to install it, as root: apt-get install --no-install-recommends valgrind"
        );
    }
    let build = "build --quiet --release --locked -p dunlin-agent --example instructions";
    Cmd::cargo(build).run()?;
    let binary = Workspace::read()?.release_binary("dunlin")?;
    let program = binary.with_file_name("examples").join("instructions");
    let known = read(&fs::read_to_string(FILE).with_context(|| format!("cannot read {FILE}"))?)?;
    println!("{:12} {:>12} {:>12}", "operation", "in the file", "counted");
    let mut grown = Vec::new();
    for (name, rounds) in OPERATIONS {
        let of = |rounds: u64| collected(&program.to_string_lossy(), name, rounds);
        let counted = of(2 * rounds)?.saturating_sub(of(rounds)?) / rounds;
        let before = known.get(name).copied();
        let verdict = Verdict::of(before, counted);
        if verdict.fails() {
            grown.push(format!("{name} {counted}"));
        }
        let before = before.map_or_else(|| "–".to_owned(), |count| count.to_string());
        println!("{name:12} {before:>12} {counted:>12}  {}", verdict.word());
    }
    if !grown.is_empty() {
        let lines = grown.join("\n");
        bail!("more instructions than {FILE} says; if that has to be, its lines become:\n{lines}");
    }
    Ok(())
}

/// Counts the instructions of the whole program.
fn collected(program: &str, operation: &str, rounds: u64) -> Result<u64> {
    let rounds = rounds.to_string();
    let args = ["--tool=callgrind", "--callgrind-out-file=/dev/null", program, operation, &rounds];
    let command = Cmd::new("valgrind", args);
    let output = command.command().output().context("cannot start valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("`{command}` ended with {}:\n{said}", output.status);
    }
    parse_collected(&said).with_context(|| format!("no count in what callgrind says:\n{said}"))
}

fn parse_collected(said: &str) -> Option<u64> {
    let (_, count) = said.lines().find_map(|line| line.split_once("Collected : "))?;
    count.split_whitespace().next()?.parse().ok()
}

fn read(text: &str) -> Result<BTreeMap<String, u64>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let line = |line: &str| {
        let (name, count) = line.split_once(' ')?;
        Some((name.to_owned(), count.trim().parse().ok()?))
    };
    let counts = lines.map(|l| line(l).with_context(|| format!("{FILE}: what is {l:?}?")));
    counts.collect()
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Same,
    Less,
    More,
    Unknown,
}

impl Verdict {
    fn of(before: Option<u64>, counted: u64) -> Self {
        let Some(before) = before else { return Self::Unknown };
        if counted * 100 > before * (100 + MAX_GROWTH) {
            return Self::More;
        }
        if counted * (100 + MAX_GROWTH) < before * 100 { Self::Less } else { Self::Same }
    }

    fn fails(&self) -> bool {
        matches!(self, Self::More | Self::Unknown)
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Same => "as before",
            Self::Less => "less: lower the figure",
            Self::More => "MORE",
            Self::Unknown => "MISSING",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_callgrind_counted_is_found() {
        let said = "==7== Events    : Ir\n==7== Collected : 181234567\n==7== \n";
        assert_eq!(parse_collected(said), Some(181_234_567));
        assert_eq!(parse_collected("==7== nothing"), None);
    }

    #[test]
    fn a_count_may_grow_by_a_twentieth() {
        assert_eq!(Verdict::of(Some(1_000), 1_050), Verdict::Same);
        assert_eq!(Verdict::of(Some(1_000), 1_051), Verdict::More);
        assert_eq!(Verdict::of(Some(1_000), 900), Verdict::Less);
        assert!(Verdict::of(None, 1).fails());
    }

    #[test]
    fn the_file_has_lines_and_words_for_people() {
        let counts = read("# why\n\nlookup 700\njson 5000\n").unwrap();
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [5_000, 700]);
        assert!(read("lookup many\n").is_err());
    }
}
