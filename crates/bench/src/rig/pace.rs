//! Questions at a steady pace, which measure latency, and single ones.
//!
//! dnsperf (2.10) prints a mean and no percentiles, and sleeps between datagrams, so its latencies hold its own wake-ups,
//! which take as long as an answer does. This loop never sleeps, which costs it a whole processor.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::datagrams::{self, Batch};
use super::questions::Questions;

/// An answer that comes later than this after the last question counts as lost.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(100);

/// A socket of the load generator, whose buffer holds many answers.
pub fn connect(address: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((address.ip(), 0)).context("no port for the load generator")?;
    socket.connect(address)?;
    datagrams::enlarge_receive_buffer(&socket)?;
    Ok(socket)
}

/// Asks at a steady pace. Returns how long each answer took, and how many did not come.
pub fn pace(
    address: SocketAddr,
    questions: &Questions,
    per_second: u32,
    time: Duration,
) -> Result<(Vec<Duration>, usize)> {
    let socket = connect(address)?;
    let interval = Duration::from_secs(1) / per_second;
    let mut asked_at = vec![None; questions.count()];
    let mut samples = Vec::new();
    let mut batch = Batch::default();
    let start = Instant::now();
    let (mut due, end) = (start, start + time);
    let mut number = 0;
    while due < end || start.elapsed() < time + ANSWER_TIMEOUT {
        let now = Instant::now();
        if now >= due && due < end {
            datagrams::send(&socket, std::iter::once(questions.packet(number)))?;
            asked_at[number % questions.count()] = Some(now);
            number += 1;
            due += interval;
        }
        if batch.receive(&socket, false)? == 0 {
            continue;
        }
        let now = Instant::now();
        for packet in batch.packets() {
            let id = packet.first_chunk().map_or(0, |id| usize::from(u16::from_be_bytes(*id)));
            let asked: Option<Instant> = asked_at.get_mut(id).and_then(Option::take);
            samples.extend(asked.map(|asked| now - asked));
        }
    }
    let lost = number - samples.len();
    Ok((samples, lost))
}

/// Asks once and waits for the answer as long as the socket's timeout allows. Returns its length; none if no server listens
/// yet or the answer is late.
pub fn ask(socket: &UdpSocket, packet: &[u8], answer: &mut [u8]) -> Option<usize> {
    socket.send(packet).and_then(|_| socket.recv(answer)).ok()
}
