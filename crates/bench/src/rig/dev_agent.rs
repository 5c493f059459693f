//! A `dunlin dev` that runs on free ports while something is measured.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::client::Client;
use super::process::Process;
use super::program::command;
use super::release::Release;

const READY_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// The time between two requests for readiness: short beside a start, long beside a connect on loopback.
const POLL_INTERVAL: Duration = Duration::from_micros(200);

/// A running agent. Dropped without [`DevAgent::stop`], it is killed.
pub struct DevAgent {
    process: Process,
    /// From just before the process was started until its first 200 on `/readyz`.
    pub ready_after: Duration,
}

impl DevAgent {
    /// Starts the release binary and waits until it is ready.
    ///
    /// # Errors
    /// If it ends before it is ready, or is not ready within half a minute.
    pub fn start(release: &Release) -> Result<Self> {
        let [api, dns, cluster] = free_addresses()?;
        let mut command = command(release.binary(), ["dev"]);
        command
            .env("DUNLIN_API__LISTEN", api.to_string())
            .env("DUNLIN_DNS__LISTEN", dns.to_string())
            .env("DUNLIN_CLUSTER__LISTEN", cluster.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let start = Instant::now();
        let mut process = Process::spawn(&mut command)?;
        let ready = wait_until_ready(&mut process, api, start);
        let ready_after = start.elapsed();
        ready.with_context(|| format!("started as {command:?}"))?;
        Ok(Self { process, ready_after })
    }

    /// Asks the agent to stop and waits for it, so that it cleans up after itself.
    ///
    /// # Errors
    /// If it has not stopped after ten seconds.
    pub fn stop(mut self) -> Result<()> {
        self.process.stop(STOP_TIMEOUT).map(drop)
    }
}

fn wait_until_ready(process: &mut Process, api: SocketAddr, start: Instant) -> Result<()> {
    while !is_ready(api) {
        if let Some(status) = process.ended()? {
            bail!("dunlin dev ended before it was ready: {status}");
        }
        if start.elapsed() > READY_TIMEOUT {
            bail!("dunlin dev was not ready within {READY_TIMEOUT:?}");
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

/// Whether `/readyz` answers 200. As long as no connection can be made, the agent is not ready.
fn is_ready(api: SocketAddr) -> bool {
    let answer = Client::tcp(api).and_then(|mut client| client.ask("GET", "/readyz", b""));
    answer.is_ok_and(|answer| answer.status == 200)
}

/// Three loopback addresses that were free a moment ago, for TCP and for UDP.
fn free_addresses() -> Result<[SocketAddr; 3]> {
    let mut held = Vec::new();
    while held.len() < 3 {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
        let address = tcp.local_addr().context("a socket without an address")?;
        // All are held until the last is found, so that no port is taken twice.
        if let Ok(udp) = UdpSocket::bind(address) {
            held.push((address, tcp, udp));
        }
    }
    Ok([0, 1, 2].map(|index: usize| held[index].0))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};

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
