//! A `dunlin dev` on free ports, for the time of a measurement.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::run::Cmd;
use crate::workspace::Workspace;

const READY_WITHIN: Duration = Duration::from_secs(30);
const STOPPED_WITHIN: Duration = Duration::from_secs(10);
/// Between two questions: short against a start, long against a connect on loopback.
const POLL_EVERY: Duration = Duration::from_micros(200);

/// A running agent. Dropped without [`DevAgent::stop`], it is killed.
pub(super) struct DevAgent {
    child: Child,
    /// From just before the process was started until its first 200 on `/readyz`.
    pub(super) ready_after: Duration,
}

impl DevAgent {
    /// Starts the release binary and waits until it is ready.
    pub(super) fn start() -> Result<Self> {
        let binary = Workspace::read()?.release_binary("dunlin")?;
        let [api, dns, cluster] = free_addresses()?;
        let command = Cmd::new(&binary.to_string_lossy(), ["dev"])
            .env("DUNLIN_API__LISTEN", &api.to_string())
            .env("DUNLIN_DNS__LISTEN", &dns.to_string())
            .env("DUNLIN_CLUSTER__LISTEN", &cluster.to_string());
        let mut process = command.command();
        process.stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let child =
            process.spawn().with_context(|| format!("cannot start {}", binary.display()))?;
        let mut agent = Self { child, ready_after: Duration::ZERO };
        let ready = agent.wait_until_ready(api, start);
        agent.ready_after = start.elapsed();
        ready.map_err(|error| anyhow!("{error:#}\nit was started as: {command}"))?;
        Ok(agent)
    }

    /// Asks the agent to stop and waits for it, so that it cleans up after itself.
    pub(super) fn stop(mut self) -> Result<()> {
        Cmd::new("kill", ["-TERM", &self.child.id().to_string()]).run()?;
        let deadline = Instant::now() + STOPPED_WITHIN;
        while self.ended()?.is_none() {
            if Instant::now() > deadline {
                bail!("dunlin dev did not stop within {STOPPED_WITHIN:?} after SIGTERM");
            }
            thread::sleep(POLL_EVERY);
        }
        Ok(())
    }

    fn wait_until_ready(&mut self, api: SocketAddr, start: Instant) -> Result<()> {
        while !is_ready(api) {
            if let Some(status) = self.ended()? {
                bail!("dunlin dev ended before it was ready: {status}");
            }
            if start.elapsed() > READY_WITHIN {
                bail!("dunlin dev was not ready within {READY_WITHIN:?}");
            }
            thread::sleep(POLL_EVERY);
        }
        Ok(())
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot ask whether dunlin dev still runs")
    }
}

impl Drop for DevAgent {
    fn drop(&mut self) {
        // An agent that has ended needs neither, and a measurement that failed has its own error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether `/readyz` answers 200. Nobody listening yet is a no like any other.
fn is_ready(api: SocketAddr) -> bool {
    let ask = || -> std::io::Result<[u8; 12]> {
        let mut stream = TcpStream::connect(api)?;
        stream.set_read_timeout(Some(READY_WITHIN))?;
        // In one piece, as clients send it.
        let request = format!("GET /readyz HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status)
    };
    ask().is_ok_and(|status| &status == b"HTTP/1.1 200")
}

/// Three loopback addresses that were free a moment ago, for TCP and for UDP.
fn free_addresses() -> Result<[SocketAddr; 3]> {
    let mut held = Vec::new();
    while held.len() < 3 {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
        let address = tcp.local_addr().context("a socket without an address")?;
        // Held together, so that no port is handed out twice; a port that UDP lacks is tried no further.
        if let Ok(udp) = UdpSocket::bind(address) {
            held.push((address, tcp, udp));
        }
    }
    Ok([0, 1, 2].map(|index: usize| held[index].0))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    /// Answers one connection with `answer`.
    fn serve(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // To its end: closing a socket with unread bytes would reset the answer away.
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let request: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
            assert_eq!(request.first().map(String::as_str), Some("GET /readyz HTTP/1.1"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn only_a_200_is_ready() {
        assert!(is_ready(serve("HTTP/1.1 200 OK\r\n\r\n")));
        assert!(!is_ready(serve("HTTP/1.1 503 Service Unavailable\r\n\r\n")));
    }

    #[test]
    fn nobody_listening_is_not_ready() {
        let [address, ..] = free_addresses().unwrap();
        assert!(!is_ready(address));
    }

    #[test]
    fn free_addresses_differ() {
        let [api, dns, cluster] = free_addresses().unwrap();
        assert!(api != dns && dns != cluster && api != cluster);
    }
}
