//! Other programs that run to their end, found by `PATH`, which `cargo xtask` extends by the folders of system programs.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A program with its arguments and without standard input.
pub fn command<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs a program with our standard output and error.
///
/// # Errors
/// If the program cannot be started or does not succeed.
pub fn run<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = S>,
) -> Result<()> {
    let mut command = command(program, args);
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

/// Runs a program and returns its standard output; its standard error goes to ours.
///
/// # Errors
/// If the program cannot be started, does not succeed or prints no UTF-8.
pub fn output<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = S>,
) -> Result<String> {
    let mut command = command(program, args);
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{command:?} printed no UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_prints_is_returned_if_it_succeeds() {
        assert_eq!(output("sh", ["-c", "printf '%s' \"$0\"", "a b"]).unwrap(), "a b");
        assert!(output("sh", ["-c", "exit 3"]).is_err());
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run("no-such-program", [""; 0]).unwrap_err();
        assert!(format!("{error:#}").contains("no-such-program"), "{error:#}");
    }
}
