//! A stream of Server-Sent Events, as watches are (HTML Living Standard, §9.2), in chunks of HTTP/1.1.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail};

use super::client::{connect, holds, read_head};

/// A stream of Server-Sent Events.
pub struct Events {
    stream: BufReader<TcpStream>,
    event: Vec<u8>,
}

impl Events {
    /// Asks for the stream and waits until it begins.
    ///
    /// # Errors
    /// If no connection can be made, or the answer is not 200.
    pub fn open(address: SocketAddr, path: &str) -> Result<Self> {
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

    /// Waits for an event of which `is_it` is true.
    pub fn wait_for(&mut self, is_it: impl Fn(&[u8]) -> bool) -> Result<()> {
        while !is_it(self.next_event()?) {}
        Ok(())
    }

    /// Waits for an event that holds `text`.
    pub fn wait_for_text(&mut self, text: &str) -> Result<()> {
        self.wait_for(|event| holds(event, text.as_bytes()))
    }

    /// Waits for the next event. Comments, which keep the connection alive, are passed over.
    ///
    /// # Errors
    /// If the stream ends, or nothing comes for half a minute.
    pub fn next_event(&mut self) -> Result<&[u8]> {
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
