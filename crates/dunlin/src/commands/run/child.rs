//! The command as a child process: started, sent our signals, and waited for.

use std::io::{ErrorKind, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use anyhow::{Context as _, Result};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::announcer::Announcer;
use crate::failure::Failure;
use crate::machine;
use crate::output::Printer;

/// The signals that are passed on.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    quit: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    /// Listens to the signals, which no longer end this process by themselves from here on.
    pub(super) fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be listened to");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
            quit: listen(SignalKind::quit())?,
            user1: listen(SignalKind::user_defined1())?,
            user2: listen(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the next signal.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => libc::SIGTERM,
            _ = self.interrupt.recv() => libc::SIGINT,
            _ = self.hang_up.recv() => libc::SIGHUP,
            _ = self.quit.recv() => libc::SIGQUIT,
            _ = self.user1.recv() => libc::SIGUSR1,
            _ = self.user2.recv() => libc::SIGUSR2,
        }
    }
}

/// Starts the command with our standard input and output.
pub(super) fn start(command: &[String], variables: Vec<(String, String)>) -> Result<Child> {
    let [program, arguments @ ..] = command else {
        return Err(Failure::wrong_use("no command is given", "").into());
    };
    let started = Command::new(program).args(arguments).envs(variables).spawn();
    started.map_err(|error| {
        let (missing, forbidden) = (ErrorKind::NotFound, ErrorKind::PermissionDenied);
        let hints = [(missing, "Is it installed, and in PATH?"), (forbidden, "Is it executable?")];
        let hint =
            hints.iter().find(|(kind, _)| *kind == error.kind()).map_or("", |(_, hint)| hint);
        Failure::not_found(format!("{program:?} cannot be started: {error}"), hint).into()
    })
}

/// Passes signals on until the command ends, and says with which exit code.
pub(super) async fn attend(
    mut child: Child,
    mut signals: Signals,
    announcer: &Announcer,
    out: Printer,
) -> Result<u8> {
    let mut is_drained = false;
    loop {
        let signal = tokio::select! {
            status = child.wait() => {
                return Ok(exit_code(status.context("the command cannot be waited for")?));
            }
            signal = signals.next() => signal,
        };
        if matches!(signal, libc::SIGTERM | libc::SIGINT) && !is_drained {
            // The instance is drained once: a second signal means that its sender does not want to wait.
            is_drained = true;
            announcer.drain(out).await;
        }
        // A terminal sends Ctrl-C and Ctrl-\ to the whole foreground group: the command has it already.
        let is_from_terminal =
            matches!(signal, libc::SIGINT | libc::SIGQUIT) && std::io::stdin().is_terminal();
        // Until it has been waited for, the id cannot belong to another process.
        if let Some(process) = child.id()
            && !is_from_terminal
            && let Err(error) = machine::send_signal(process, signal)
        {
            out.note(format_args!("dunlin run: signal {signal} was not passed on: {error}"));
        }
    }
}

/// As shells do: 128 plus the number of the signal that killed it.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_passed_through() {
        // Wait statuses as Linux encodes them: the code in the second octet, a signal in the first.
        for (raw, code) in [(0, 0), (7 << 8, 7), (255 << 8, 255), (9, 137), (15, 143)] {
            assert_eq!(exit_code(ExitStatus::from_raw(raw)), code);
        }
    }

    #[tokio::test]
    async fn a_command_that_cannot_start_says_why() {
        let error = start(&["/nowhere/at-all".to_owned()], vec![]).unwrap_err().to_string();
        assert!(error.contains("\"/nowhere/at-all\" cannot be started"), "{error}");
        let mut child = start(
            &["sh".into(), "-c".into(), "test \"$DB\" = 10.0.0.1:5".into()],
            vec![("DB".into(), "10.0.0.1:5".into())],
        )
        .unwrap();
        assert!(child.wait().await.unwrap().success());
    }
}
