//! Running commands, and the steps that a long command consists of.
//!
//! A step has a header line, a time, and a command that repeats it by hand. The first step that fails ends the run, so that
//! its message is at the end of the output.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

/// A command that can be run and shown in the form in which a person would type it.
#[derive(Debug, Clone)]
pub(crate) struct Cmd {
    program: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl Cmd {
    pub(crate) fn new<'a>(program: &str, args: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            program: program.to_owned(),
            args: args.into_iter().map(str::to_owned).collect(),
            env: Vec::new(),
        }
    }

    /// A cargo command, written as one line: no argument of ours holds a space.
    pub(crate) fn cargo(args: &str) -> Self {
        Self::new("cargo", args.split_whitespace())
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs it with our standard output and error, without standard input.
    pub(crate) fn run(&self) -> Result<()> {
        let status = self.command().status().with_context(|| self.not_started())?;
        if !status.success() {
            bail!("{} ended with {status}", self.program);
        }
        Ok(())
    }

    /// Runs it and returns its standard output; its standard error goes to ours.
    pub(crate) fn output(&self) -> Result<String> {
        let output =
            self.command().stderr(Stdio::inherit()).output().with_context(|| self.not_started())?;
        if !output.status.success() {
            bail!("`{self}` ended with {}", output.status);
        }
        String::from_utf8(output.stdout).with_context(|| format!("`{self}` printed no UTF-8"))
    }

    /// Whether it starts and succeeds; prints nothing.
    pub(crate) fn succeeds(&self) -> bool {
        self.command()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .env("PATH", search_path())
            .envs(self.env.iter().map(|(name, value)| (name, OsString::from(value))))
            .stdin(Stdio::null());
        command
    }

    fn not_started(&self) -> String {
        format!("cannot start {}", self.program)
    }
}

impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.env {
            write!(f, "{name}={} ", quoted(value))?;
        }
        f.write_str(&self.program)?;
        for arg in &self.args {
            write!(f, " {}", quoted(arg))?;
        }
        Ok(())
    }
}

/// `PATH` with the folders of system programs at its end, which the `PATH` of Debian's users lacks.
pub(crate) fn search_path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    env::join_paths(folders).unwrap_or(path)
}

/// `word` as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The steps of one run, with their times.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<Step>,
}

struct Step {
    name: String,
    passed: bool,
    took: Duration,
}

impl Steps {
    /// Runs a command as a step.
    pub(crate) fn command(&mut self, name: &str, command: &Cmd) -> Result<()> {
        self.check(name, &command.to_string(), || command.run())
    }

    /// Runs `check` as a step; `by_hand` is what repeats it.
    pub(crate) fn check(
        &mut self,
        name: &str,
        by_hand: &str,
        check: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        println!("── {name}: {by_hand}");
        let start = Instant::now();
        let result = check();
        let took = start.elapsed();
        let passed = result.is_ok();
        println!("   {} after {}", verdict(passed), seconds(took));
        self.done.push(Step { name: name.to_owned(), passed, took });
        result.map_err(|error| anyhow!("{name} failed: {error:#}\nto repeat it: {by_hand}"))
    }

    /// Prints every step with its time. The last line is one that CI systems read.
    pub(crate) fn print_summary(&self) {
        if self.done.is_empty() {
            return;
        }
        let width = self.done.iter().map(|step| step.name.chars().count()).max();
        let width = width.unwrap_or_default().max("step".len());
        println!("\n{:width$}  result      time", "step");
        for Step { name, passed, took } in &self.done {
            println!("{name:width$}  {:6}  {:>8}", verdict(*passed), seconds(*took));
        }
        let total: Duration = self.done.iter().map(|step| step.took).sum();
        let passed = self.done.iter().filter(|step| step.passed).count();
        println!("all together: {}", seconds(total));
        println!("steps: {passed} passed, {} failed", self.done.len() - passed);
    }
}

fn verdict(passed: bool) -> &'static str {
    if passed { "ok" } else { "FAILED" }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let command =
            Cmd::new("printf", ["%s", "two words", "it's", ""]).env("FLAGS", "-D warnings");
        assert_eq!(command.to_string(), r"FLAGS='-D warnings' printf %s 'two words' 'it'\''s' ''");
    }

    #[test]
    fn a_command_gets_its_arguments_and_environment() {
        let command = Cmd::new("sh", ["-c", "printf '%s %s' \"$WORD\" \"$0\"", "zero"]);
        assert_eq!(command.env("WORD", "a b").output().unwrap(), "a b zero");
    }

    #[test]
    fn a_failing_step_ends_with_the_command_that_repeats_it() {
        let mut steps = Steps::default();
        steps.check("fine", "true", || Ok(())).unwrap();
        let error = steps.check("broken", "cargo broken", || Err(anyhow!("why"))).unwrap_err();
        assert_eq!(format!("{error:#}"), "broken failed: why\nto repeat it: cargo broken");
        assert_eq!(steps.done.iter().filter(|step| step.passed).count(), 1);
    }

    #[test]
    fn system_programs_are_on_the_search_path() {
        let path = search_path();
        assert!(env::split_paths(&path).any(|folder| folder.ends_with("usr/sbin")));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Cmd::new("no-such-program", []).run().unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot start no-such-program"), "{error:#}");
    }
}
