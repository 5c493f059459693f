//! Command checks: a program in a process group of its own.
//!
//! Exit 0 is passing, 1 warning, anything else critical. The group is killed when the program has ended,
//! at the timeout, and when the run is given up, so children that it left behind do not pile up.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use dunlin_core::health::CheckOutcome;
use dunlin_core::model::CheckStatus;
use dunlin_core::model::limits::MAX_CHECK_OUTPUT_OCTETS;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::{CheckRequest, Failure, outcome};

/// How long output may still come in after the program and its group have ended.
const LAST_OUTPUT_TIMEOUT: Duration = Duration::from_millis(100);

/// The variables of the agent that a program gets. The others may hold secrets that are not its concern.
const INHERITED_VARIABLES: [&str; 9] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// Kills a process group when dropped.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // The group was made for this child alone. When no process is left in it, the call fails, and
        // nothing has to be done.
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

/// Runs the program and judges how it ended.
pub(super) async fn run(argv: &[String], request: &CheckRequest) -> Result<CheckOutcome, Failure> {
    let (program, arguments) = argv.split_first().ok_or("no program is given")?;
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(INHERITED_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("DUNLIN_INSTANCE", request.instance.as_str())
        .env("DUNLIN_SERVICE", request.service.as_str())
        .env("DUNLIN_ADDRESS", request.address.ip().to_string())
        .env("DUNLIN_PORT", request.address.port().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| explain(&e, program))?;
    let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let group = Group(pid.ok_or("the program has no process id")?);
    let mut output = ProcessOutput::of(&mut child);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.map_err(|e| e.to_string())?,
            () = output.read() => {}
        }
    };
    drop(group);
    // The processes that still held the pipes have just been killed; this only waits for what they wrote.
    let _ = timeout(LAST_OUTPUT_TIMEOUT, output.read_to_end()).await;
    Ok(judge(status, &output.text()))
}

fn explain(error: &io::Error, program: &str) -> Failure {
    if error.kind() == io::ErrorKind::NotFound {
        return format!("{program}: no such program");
    }
    format!("{program}: {error}")
}

fn judge(status: ExitStatus, output: &str) -> CheckOutcome {
    let (health, word) = match (status.code(), status.signal()) {
        (Some(0), _) => (CheckStatus::Passing, "exit 0".to_owned()),
        (Some(1), _) => (CheckStatus::Warning, "exit 1".to_owned()),
        (Some(code), _) => (CheckStatus::Critical, format!("exit {code}")),
        (None, Some(signal)) => (CheckStatus::Critical, format!("killed by signal {signal}")),
        (None, None) => (CheckStatus::Critical, "ended in an unknown way".to_owned()),
    };
    let output = output.trim();
    let text = if output.is_empty() { word } else { format!("{word}: {output}") };
    outcome(health, text)
}

/// What the program writes, of which only the beginning is kept.
struct ProcessOutput {
    pipes: [Option<Box<dyn AsyncRead + Send + Unpin>>; 2],
    kept: Vec<u8>,
    buffers: [Box<[u8]>; 2],
}

impl ProcessOutput {
    fn of(child: &mut Child) -> Self {
        let stdout = child.stdout.take().map(|p| Box::new(p) as Box<dyn AsyncRead + Send + Unpin>);
        let stderr = child.stderr.take().map(|p| Box::new(p) as Box<dyn AsyncRead + Send + Unpin>);
        let buffers = [(); 2].map(|()| vec![0; 16 * 1024].into_boxed_slice());
        Self { pipes: [stdout, stderr], kept: Vec::new(), buffers }
    }

    /// Reads once from either pipe; never returns when both have ended.
    async fn read(&mut self) {
        let [stdout, stderr] = &mut self.pipes;
        let [first, second] = &mut self.buffers;
        let (pipe, read) = tokio::select! {
            read = read_some(stdout, first) => (0, read),
            read = read_some(stderr, second) => (1, read),
        };
        if read == 0 {
            self.pipes[pipe] = None;
        }
        let room = MAX_CHECK_OUTPUT_OCTETS - self.kept.len();
        self.kept.extend_from_slice(&self.buffers[pipe][..read.min(room)]);
    }

    async fn read_to_end(&mut self) {
        while self.pipes.iter().any(Option::is_some) {
            self.read().await;
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}

/// Reads from a pipe. Zero means that the pipe has ended, as does an error; a pipe that ended before is never ready.
async fn read_some(
    pipe: &mut Option<Box<dyn AsyncRead + Send + Unpin>>,
    buffer: &mut [u8],
) -> usize {
    match pipe {
        Some(pipe) => pipe.read(buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}
