//! Many connections to one agent that one thread serves, as ten thousand watchers would open them.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::client::holds;

/// The number of ready connections that the kernel reports at a time.
const MAX_EVENTS: usize = 1024;
/// Waiting for a text on all connections fails after this time.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The octets of one read, which hold any answer or event of a bench.
const MAX_PIECE: usize = 16 << 10;

/// Connections by number.
pub struct Crowd {
    /// None for a connection that is closed.
    connections: Vec<Option<TcpStream>>,
    epoll: OwnedFd,
    events: Vec<Event>,
    piece: Vec<u8>,
}

/// The function that takes what a connection, given by its number, has received.
type Taking<'a> = &'a mut dyn FnMut(usize, &[u8]) -> Result<()>;

impl Crowd {
    /// Opens `count` connections, one after the other, and sends on each what `request` says for its number.
    ///
    /// # Errors
    /// If one cannot be opened.
    pub fn open(
        address: SocketAddr,
        count: usize,
        request: impl Fn(usize) -> String,
    ) -> Result<Self> {
        let mut crowd = Self::empty(count)?;
        for number in 0..count {
            let connected = crowd.reopen(number, address, &request(number));
            connected.with_context(|| format!("connection {number} of {count}"))?;
        }
        Ok(crowd)
    }

    /// A crowd of `count` connections, none of which is open yet.
    pub fn empty(count: usize) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).context("no epoll")?;
        let connections = (0..count).map(|_| None).collect();
        let events = Vec::with_capacity(MAX_EVENTS);
        Ok(Self { connections, epoll, events, piece: vec![0; MAX_PIECE] })
    }

    /// Opens a connection, in the place of a former one if there was one, and sends a request on it.
    ///
    /// # Errors
    /// If no connection can be made, or the request cannot be sent.
    pub fn reopen(&mut self, number: usize, address: SocketAddr, request: &str) -> Result<()> {
        let stream = TcpStream::connect(address).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll::add(&self.epoll, &stream, EventData::new_u64(number as u64), EventFlags::IN)?;
        self.connections[number] = Some(stream);
        self.send(number, request)
    }

    /// Sends a request on a connection. A request is short enough for an idle connection to take it in one write.
    ///
    /// # Errors
    /// If the connection is closed or broken.
    pub fn send(&mut self, number: usize, request: &str) -> Result<()> {
        let stream = self.connections[number].as_mut().context("it is closed")?;
        stream.write_all(request.as_bytes()).context("cannot send a request")
    }

    /// Waits at most `wait` until connections have received something, and hands that on. Returns whether any had.
    ///
    /// # Errors
    /// If a connection ends, or `taking` fails.
    pub fn take(&mut self, wait: Duration, taking: Taking<'_>) -> Result<bool> {
        let mut lost = Vec::new();
        let had = self.take_or_lose(wait, taking, &mut lost)?;
        match lost.first() {
            Some(number) => bail!("connection {number} was closed"),
            None => Ok(had),
        }
    }

    /// As [`Crowd::take`], but adds the numbers of connections that have ended to `lost`.
    pub fn take_or_lose(
        &mut self,
        wait: Duration,
        taking: Taking<'_>,
        lost: &mut Vec<usize>,
    ) -> Result<bool> {
        let wait = wait.try_into().ok();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), wait.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let had = !self.events.is_empty();
        for event in self.events.drain(..) {
            let number = event.data.u64() as usize;
            let Some(stream) = &mut self.connections[number] else { continue };
            match stream.read(&mut self.piece) {
                Ok(octets) if octets > 0 => taking(number, &self.piece[..octets])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => {
                    self.connections[number] = None;
                    lost.push(number);
                }
            }
        }
        Ok(had)
    }

    /// Waits until `count` connections have received `sign`. Returns when the last of them had it.
    ///
    /// # Errors
    /// If that takes more than half a minute, or a connection ends.
    pub fn wait_for(&mut self, sign: &str, count: usize) -> Result<Instant> {
        let deadline = Instant::now() + READ_TIMEOUT;
        let mut left = count;
        let mut last = Instant::now();
        while left > 0 {
            if Instant::now() > deadline {
                bail!(
                    "{left} of {count} connections did not hear {sign:?} within {READ_TIMEOUT:?}"
                );
            }
            self.take(Duration::from_millis(100), &mut |_, octets| {
                if holds(octets, sign.as_bytes()) {
                    left = left.saturating_sub(1);
                    last = Instant::now();
                }
                Ok(())
            })?;
        }
        Ok(last)
    }
}

/// Raises the limit of open descriptors, for this process and those that it starts, to the system's hard limit, which
/// must be at least `needed`.
///
/// # Errors
/// If the hard limit is lower; the error says how to raise it.
pub fn allow_descriptors(needed: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if let Some(most) = limit.maximum.filter(|most| *most < needed) {
        bail!(
            "{needed} descriptors are needed and {most} allowed; as root: prlimit --pid $$ --nofile=65536"
        );
    }
    let raised = Rlimit { current: limit.maximum, ..limit };
    setrlimit(Resource::Nofile, raised).context("the limit of descriptors stays")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_crowd_hears_what_each_of_its_connections_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut crowd = Crowd::open(address, 2, |number| format!("hello {number}")).unwrap();
        let mut others: Vec<TcpStream> = (0..2).map(|_| listener.accept().unwrap().0).collect();
        for (number, other) in others.iter_mut().enumerate() {
            let mut heard = [0; 7];
            other.read_exact(&mut heard).unwrap();
            assert_eq!(heard, *format!("hello {number}").as_bytes());
        }
        others[1].write_all(b"news").unwrap();
        let mut taken = Vec::new();
        while taken.is_empty() {
            let wait = Duration::from_secs(1);
            let mut take = |number, octets: &[u8]| {
                taken.push((number, octets.to_vec()));
                Ok(())
            };
            crowd.take(wait, &mut take).unwrap();
        }
        assert_eq!(taken, [(1, b"news".to_vec())]);
    }
}
