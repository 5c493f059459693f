//! Lines from standard input, if a person or a program can send them there.

use std::fs::FileType;
use std::future::pending;
use std::io::{self, BufRead, IsTerminal, Read};
use std::os::unix::fs::FileTypeExt;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::warn;

use crate::machine;

/// Octets of a line.
const MAX_LINE_OCTETS: u64 = 1024;
/// Lines that may wait; more stay in the pipe.
const MAX_LINES: usize = 16;
/// Time between two reads from a terminal that another program has.
const BACKGROUND_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, without its line break.
    Text(String),
    /// A line longer than any command, of which the rest was passed over.
    TooLong,
}

/// Lines as they come. After the last one, none comes any more.
#[derive(Debug)]
pub(super) struct Lines(mpsc::Receiver<Line>);

impl Lines {
    /// Reads standard input if it is a terminal, a pipe or a socket.
    pub(super) fn listen() -> Self {
        let (send, lines) = mpsc::channel(MAX_LINES);
        let stdin = io::stdin();
        let can_speak = |kind: FileType| kind.is_fifo() || kind.is_socket();
        let kind = std::fs::metadata("/dev/stdin").map(|found| found.file_type());
        if stdin.is_terminal() {
            // A program in the background must not be stopped for wanting to read.
            machine::fail_reads_in_background();
        } else if !kind.is_ok_and(can_speak) {
            return Self(lines);
        }
        // Not joined at the end: nothing but input ends a read, and it holds nothing.
        let reader = std::thread::Builder::new().name("console".to_owned());
        let started = reader.spawn(move || read_all(&mut stdin.lock(), &send));
        if let Err(error) = started {
            warn!(%error, "standard input is not read");
        }
        Self(lines)
    }

    /// The next line; waits for ever when there is no more.
    pub(super) async fn next(&mut self) -> Line {
        match self.0.recv().await {
            Some(line) => line,
            None => pending().await,
        }
    }
}

fn read_all(input: &mut impl BufRead, lines: &mpsc::Sender<Line>) {
    loop {
        match read(input) {
            Ok(Some(line)) => {
                if lines.blocking_send(line).is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) if machine::is_background_read(&error) => {
                std::thread::sleep(BACKGROUND_RETRY_INTERVAL);
            }
            Err(error) => {
                warn!(%error, "standard input cannot be read any more");
                return;
            }
        }
    }
}

/// The next line, or `None` at the end of the input.
fn read(input: &mut impl BufRead) -> io::Result<Option<Line>> {
    let mut octets = Vec::new();
    input.by_ref().take(MAX_LINE_OCTETS).read_until(b'\n', &mut octets)?;
    if octets.is_empty() {
        return Ok(None);
    }
    if octets.len() as u64 == MAX_LINE_OCTETS && !octets.ends_with(b"\n") {
        input.skip_until(b'\n')?;
        return Ok(Some(Line::TooLong));
    }
    Ok(Some(Line::Text(String::from_utf8_lossy(&octets).trim_end().to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(mut input: &[u8]) -> Vec<Line> {
        std::iter::from_fn(|| read(&mut input).unwrap()).collect()
    }

    #[test]
    fn lines_are_bounded_and_the_next_one_is_whole() {
        let long = [&[b'x'; 5000][..], b"\nkill z1\n"].concat();
        assert_eq!(lines(&long), [Line::TooLong, Line::Text("kill z1".to_owned())]);
        let full = [&[b'x'; 1023][..], b"\nheal"].concat();
        let text = |octets: &[u8]| Line::Text(String::from_utf8_lossy(octets).into_owned());
        assert_eq!(lines(&full), [text(&[b'x'; 1023]), text(b"heal")]);
    }

    #[test]
    fn the_end_needs_no_newline_and_wrong_octets_do_no_harm() {
        let text = |t: &str| Line::Text(t.to_owned());
        assert_eq!(lines(b"nodes\r\n\nquit"), [text("nodes"), text(""), text("quit")]);
        assert_eq!(lines(b"\xff\n"), [text("\u{fffd}")]);
        assert_eq!(lines(b""), []);
    }

    #[tokio::test]
    async fn after_the_last_line_nothing_comes_any_more() {
        let (send, receive) = mpsc::channel(MAX_LINES);
        std::thread::spawn(move || read_all(&mut &b"heal\n"[..], &send));
        let mut lines = Lines(receive);
        assert_eq!(lines.next().await, Line::Text("heal".to_owned()));
        let more = tokio::time::timeout(Duration::from_millis(50), lines.next()).await;
        assert!(more.is_err(), "{more:?}");
    }
}
