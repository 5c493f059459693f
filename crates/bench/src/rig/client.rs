//! A client of the HTTP API that costs little: blocking sockets, one request at a time, nothing parsed that is
//! not needed. The load generator shares the processors with the agents that it loads.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// An answer, or an event of a watch, that takes longer counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);

trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

/// A keep-alive connection.
pub(crate) struct Client {
    stream: BufReader<Box<dyn Duplex>>,
    /// Kept from request to request for its memory.
    draft: Vec<u8>,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn tcp(address: SocketAddr) -> Result<Self> {
        Ok(Self::over(Box::new(connect(address)?)))
    }

    /// Over the agent's local socket, whose octets no network interface counts.
    pub(crate) fn unix(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path)
            .with_context(|| format!("cannot connect to {}", path.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self::over(Box::new(stream)))
    }

    fn over(stream: Box<dyn Duplex>) -> Self {
        Self { stream: BufReader::new(stream), draft: Vec::new() }
    }

    /// Sends a request in one piece, without waiting for its answer.
    pub(crate) fn send(&mut self, method: &str, path: &str, body: &[u8]) -> Result<()> {
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
    pub(crate) fn answer(&mut self) -> Result<Answer> {
        let head = read_head(&mut self.stream)?;
        let mut body = vec![0; head.length];
        self.stream.read_exact(&mut body).context("an answer ended early")?;
        Ok(Answer { status: head.status, body })
    }

    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
        self.send(method, path, body)?;
        self.answer()
    }

    /// Waits for the answer to the last request, which must be a good one.
    pub(crate) fn good_answer(&mut self) -> Result<Vec<u8>> {
        let Answer { status, body } = self.answer()?;
        if !(200..300).contains(&status) {
            bail!("answer {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }

    /// Asks and takes none but a good answer.
    pub(crate) fn expect(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>> {
        self.send(method, path, body)?;
        self.good_answer().with_context(|| format!("{method} {path}"))
    }

    /// The agent's metrics whose names and labels begin so, added up; none if there is none.
    pub(crate) fn metric(&mut self, series: &str) -> Result<Option<f64>> {
        let metrics = String::from_utf8(self.expect("GET", "/metrics", b"")?)?;
        let lines = metrics.lines().filter(|line| line.starts_with(series));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value)))
    }
}

/// A stream of Server-Sent Events.
pub(crate) struct Events {
    stream: BufReader<TcpStream>,
    event: Vec<u8>,
}

impl Events {
    /// Asks for the stream and waits until it begins.
    pub(crate) fn open(address: SocketAddr, path: &str) -> Result<Self> {
        let mut stream = connect(address)?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut stream = BufReader::new(stream);
        let head = read_head(&mut stream)?;
        if head.status != 200 {
            bail!("{path} answers {}", head.status);
        }
        Ok(Self { stream, event: Vec::new() })
    }

    /// Waits for an event that `is_it`.
    pub(crate) fn wait_for(&mut self, is_it: impl Fn(&[u8]) -> bool) -> Result<()> {
        while !is_it(self.next()?) {}
        Ok(())
    }

    /// Waits for an event that holds `text`.
    pub(crate) fn wait_for_text(&mut self, text: &str) -> Result<()> {
        self.wait_for(|event| holds(event, text.as_bytes()))
    }

    /// Waits for the next event.
    pub(crate) fn next(&mut self) -> Result<&[u8]> {
        self.event.clear();
        while !self.event.ends_with(b"\n\n") {
            let mut size = String::new();
            self.stream.read_line(&mut size).context("no event came")?;
            let size = usize::from_str_radix(size.trim(), 16)
                .with_context(|| format!("{size:?} is no chunk's size"))?;
            if size == 0 {
                bail!("the stream of events ended");
            }
            let start = self.event.len();
            self.event.resize(start + size, 0);
            self.stream.read_exact(&mut self.event[start..]).context("a chunk ended early")?;
            self.stream.read_exact(&mut [0; 2])?;
            if self.event.starts_with(b":") && self.event.ends_with(b"\n\n") {
                self.event.clear();
            }
        }
        Ok(&self.event)
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("no agent at {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// What an answer's head says.
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Octets of the body; none if it does not say.
    pub(crate) length: usize,
}

pub(crate) fn read_head(stream: &mut impl BufRead) -> Result<Head> {
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
pub(crate) fn holds(octets: &[u8], text: &[u8]) -> bool {
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
