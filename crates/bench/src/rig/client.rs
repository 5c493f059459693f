//! A client of the HTTP API that costs little: it has a blocking socket, one request under way at a time, and parses only
//! what is needed. The load generator shares the processors with the agents that it loads.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A read of an answer, or of an event of a watch, fails after this time.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

/// A keep-alive connection.
pub struct Client {
    stream: BufReader<Box<dyn Duplex>>,
    /// The buffer in which requests are written; it is kept so that its memory is allocated once.
    draft: Vec<u8>,
}

/// An answer to a request.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Client {
    /// A client of an agent's TCP listener.
    pub fn tcp(address: SocketAddr) -> Result<Self> {
        Ok(Self::over(Box::new(connect(address)?)))
    }

    /// A client of an agent's local socket, whose octets no network interface counts.
    pub fn unix(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path)
            .with_context(|| format!("cannot connect to {}", path.display()))?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        Ok(Self::over(Box::new(stream)))
    }

    fn over(stream: Box<dyn Duplex>) -> Self {
        Self { stream: BufReader::new(stream), draft: Vec::new() }
    }

    /// Sends a request in one piece, without waiting for its answer.
    pub fn send(&mut self, method: &str, path: &str, body: &[u8]) -> Result<()> {
        self.draft.clear();
        let length = body.len();
        write!(
            self.draft,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        )?;
        self.draft.extend_from_slice(body);
        self.stream.get_mut().write_all(&self.draft).context("cannot send a request")
    }

    /// Waits for the answer to the last request.
    ///
    /// # Errors
    /// If no answer comes within half a minute, or it cannot be read.
    pub fn answer(&mut self) -> Result<Answer> {
        let head = read_head(&mut self.stream)?;
        let mut body = vec![0; head.length];
        self.stream.read_exact(&mut body).context("an answer ended early")?;
        Ok(Answer { status: head.status, body })
    }

    /// Sends a request and waits for its answer.
    pub fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
        self.send(method, path, body)?;
        self.answer()
    }

    /// Waits for the answer to the last request and returns its body.
    ///
    /// # Errors
    /// If the status is not 2xx, and as [`Client::answer`].
    pub fn good_answer(&mut self) -> Result<Vec<u8>> {
        let Answer { status, body } = self.answer()?;
        if !(200..300).contains(&status) {
            bail!("answer {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }

    /// Sends a request, waits for its answer and returns the body.
    pub fn expect(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>> {
        self.send(method, path, body)?;
        self.good_answer().with_context(|| format!("{method} {path}"))
    }

    /// The sum of the agent's metrics whose names and labels begin with `series`; none if there are none.
    pub fn metric(&mut self, series: &str) -> Result<Option<f64>> {
        let metrics = String::from_utf8(self.expect("GET", "/metrics", b"")?)?;
        let lines = metrics.lines().filter(|line| line.starts_with(series));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value)))
    }
}

pub(super) fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("no agent at {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    Ok(stream)
}

/// The head of an answer, as far as it is needed.
pub struct Head {
    pub status: u16,
    /// Octets of the body; zero if the head does not say.
    pub length: usize,
}

/// Reads an answer up to its body.
///
/// # Errors
/// If the stream ends early, or holds no status line.
pub fn read_head(stream: &mut impl BufRead) -> Result<Head> {
    let mut line = String::new();
    stream.read_line(&mut line).context("no answer came")?;
    let status = line.get(9..12).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("{line:?} is no status line"))?;
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line).context("an answer's head ended early")?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Ok(Head { status, length });
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        }
    }
}

/// Whether `text` is somewhere in `octets`.
pub fn holds(octets: &[u8], text: &[u8]) -> bool {
    octets.windows(text.len()).any(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_tells_status_and_length() {
        let mut answer = &b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\nx: y\r\n\r\nhello"[..];
        let head = read_head(&mut answer).unwrap();
        assert_eq!((head.status, head.length, answer), (201, 5, &b"hello"[..]));
    }

    #[test]
    fn text_is_found_anywhere() {
        assert!(holds(b"{\"weight\":7,", b"\"weight\":7,"));
        assert!(!holds(b"{\"weight\":71,", b"\"weight\":7,"));
    }
}
