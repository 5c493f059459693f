//! Many connections of one client to one agent, all on one thread: what ten thousand watchers look like.
//!
//! One audited module that opts out of the ban on `unsafe`: epoll and the limit of open files have no safe
//! interface in the standard library.

#![allow(unsafe_code, reason = "epoll(7) and setrlimit(2); each block says why it is sound")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::cluster::http::holds;

/// Connections that are told of at a time.
const READY: usize = 1024;
/// An answer that takes longer counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);
/// What one read takes: more than any answer or event here.
const PIECE: usize = 16 << 10;

/// Connections by number.
pub(crate) struct Crowd {
    /// None while it is closed.
    connections: Vec<Option<TcpStream>>,
    epoll: OwnedFd,
    piece: Vec<u8>,
}

/// Takes what a connection of a number has received.
type Taking<'a> = &'a mut dyn FnMut(usize, &[u8]) -> Result<()>;

impl Crowd {
    /// Opens so many connections, one after the other, and sends on each what `request` says for its number.
    /// Returns when all have heard something.
    pub(crate) fn open(
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

    /// So many connections, none of which is open yet.
    pub(crate) fn empty(count: usize) -> Result<Self> {
        // SAFETY: no pointer is passed; what it returns is checked before it is owned, once.
        let epoll = unsafe {
            let descriptor = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if descriptor < 0 {
                return Err(io::Error::last_os_error()).context("no epoll");
            }
            OwnedFd::from_raw_fd(descriptor)
        };
        let connections = (0..count).map(|_| None).collect();
        Ok(Self { connections, epoll, piece: vec![0; PIECE] })
    }

    /// Opens a connection, in the place of a former one if there was one, and sends a request on it.
    pub(crate) fn reopen(
        &mut self,
        number: usize,
        address: SocketAddr,
        request: &str,
    ) -> Result<()> {
        let stream = TcpStream::connect(address).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        self.add(&stream, number)?;
        self.connections[number] = Some(stream);
        self.send(number, request)
    }

    fn add(&self, stream: &TcpStream, number: usize) -> Result<()> {
        let events = libc::EPOLLIN as u32;
        let mut event = libc::epoll_event { events, u64: number as u64 };
        // SAFETY: both descriptors are open while they are borrowed; the event lives beyond the call.
        let done = unsafe {
            libc::epoll_ctl(
                self.epoll.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                stream.as_raw_fd(),
                &raw mut event,
            )
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error().into()) }
    }

    /// Sends a request on a connection. It is short, so that an idle connection takes it whole.
    pub(crate) fn send(&mut self, number: usize, request: &str) -> Result<()> {
        let stream = self.connections[number].as_mut().context("it is closed")?;
        stream.write_all(request.as_bytes()).context("cannot send a request")
    }

    /// Waits a while for connections to have something, and hands it on. Returns whether any had. None may end.
    pub(crate) fn take(&mut self, wait: Duration, taking: Taking<'_>) -> Result<bool> {
        let mut lost = Vec::new();
        let had = self.take_or_lose(wait, taking, &mut lost)?;
        match lost.first() {
            Some(number) => bail!("connection {number} was closed"),
            None => Ok(had),
        }
    }

    /// The same; adds to `lost` the numbers of connections that have ended.
    pub(crate) fn take_or_lose(
        &mut self,
        wait: Duration,
        taking: Taking<'_>,
        lost: &mut Vec<usize>,
    ) -> Result<bool> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; READY];
        let millis = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the descriptor is open; the kernel writes at most `READY` events, for which there is room.
        let count = unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                events.as_mut_ptr(),
                READY as libc::c_int,
                millis,
            )
        };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            let is_nothing = error.kind() == io::ErrorKind::Interrupted;
            return if is_nothing { Ok(false) } else { Err(error.into()) };
        };
        for event in &events[..count] {
            let number = event.u64 as usize;
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
        Ok(count > 0)
    }

    /// Waits until so many connections have received `sign`. Returns when the last had it.
    pub(crate) fn wait_for(&mut self, sign: &str, count: usize) -> Result<Instant> {
        let deadline = Instant::now() + PATIENCE;
        let mut left = count;
        let mut last = Instant::now();
        while left > 0 {
            if Instant::now() > deadline {
                bail!("{left} of {count} connections did not hear {sign:?} within {PATIENCE:?}");
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

/// Lets this process and those that it starts have as many descriptors open as the system's hard limit says, which
/// must be `needed` at least.
pub(crate) fn allow_descriptors(needed: u64) -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a value that lives beyond the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error()).context("no limit of descriptors");
    }
    if limit.rlim_max < needed {
        bail!(
            "{needed} descriptors are needed and {} allowed; as root: prlimit --pid $$ --nofile=65536",
            limit.rlim_max
        );
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the pointer is to a value that lives beyond the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error()).context("the limit of descriptors stays");
    }
    Ok(())
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
