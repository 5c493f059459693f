//! The target of all checks: one listener that accepts every connection and notes when it came.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
/// How long a client may take for its request.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(500);
/// The most arrivals that are noted between two calls of [`Target::take`]; further ones are not counted.
const MAX_ARRIVALS: usize = 1 << 20;

/// What the target sends on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing: the connection is closed at once.
    Nothing,
    /// An answer of status 200 to the request.
    Ok,
}

/// A listener that runs as long as this program.
pub(super) struct Target {
    pub(super) address: SocketAddr,
    arrivals: Arc<Mutex<Vec<Instant>>>,
}

impl Target {
    pub(super) fn start(address: SocketAddr, answer: Answer) -> Result<Self> {
        let listener = TcpListener::bind(address).context("no port for what is checked")?;
        let address = listener.local_addr()?;
        let arrivals = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&arrivals);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                if noted.len() < MAX_ARRIVALS {
                    noted.push(Instant::now());
                }
                drop(noted);
                if answer == Answer::Ok {
                    // A client that has gone does not concern the others.
                    let _ = give(stream);
                }
            }
        });
        Ok(Self { address, arrivals })
    }

    /// When connections came since the last call.
    pub(super) fn take(&self) -> Vec<Instant> {
        std::mem::take(&mut *self.arrivals.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Answers a request that is short enough to come in one piece.
fn give(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    if stream.read(&mut [0; 2048])? > 0 {
        stream.write_all(GOOD)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_answers_and_notes_when_connections_came() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let target = Target::start(any, Answer::Ok).unwrap();
        let mut client = TcpStream::connect(target.address).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, GOOD);
        assert_eq!(target.take().len(), 1);
        assert!(target.take().is_empty());
    }
}
