//! A flood of questions, of which a fixed number is open at any moment.
//!
//! dnsperf does not look at what answers hold, and uses as much of its processor as a server uses of the other one, so it
//! would be the limit of the fastest server.

use std::hint;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use dunlin_bench::rig::datagrams::{self, Batch, MAX_BATCH};
use dunlin_bench::rig::pace::connect;
use dunlin_bench::rig::questions::Questions;

/// The questions that are open at any moment of a flood.
const MAX_OPEN: usize = 256;
/// How long a flood lasts before the clock starts, so that caches fill and processors wake up.
const WARM_UP: Duration = Duration::from_millis(100);
/// If no answer comes for this long, all open questions are lost.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(100);
/// The time after a read that found nothing until the next one. More reads would only hinder the server, which fills the
/// same queue.
const READ_INTERVAL: Duration = Duration::from_micros(20);
/// One answer of this many is compared with its question.
const CHECK_EVERY: u64 = 64;

/// What is expected of answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Expected {
    /// The records of the name, or as many of them as fit.
    Records,
    /// A reply that the name does not exist.
    NoSuchName,
    /// The question, sent back as it is.
    Echo,
}

/// The result of a flood.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Flood {
    pub(super) answers: u64,
    pub(super) lost: u64,
    /// Answers that are marked as truncated.
    pub(super) truncated: u64,
    pub(super) octets: u64,
    pub(super) took: Duration,
    /// Processor time of the server meanwhile.
    pub(super) used: Duration,
}

impl Flood {
    pub(super) fn per_second(&self) -> f64 {
        self.answers as f64 / self.took.as_secs_f64()
    }

    pub(super) fn micros_per_answer(&self) -> f64 {
        self.used.as_secs_f64() * 1e6 / self.answers.max(1) as f64
    }
}

/// Asks as fast as answers come, over a number of sockets, and reads the server's clock of processor time.
pub(super) fn flood(
    address: SocketAddr,
    questions: &Questions,
    (sockets, expected, time): (usize, Expected, Duration),
    processor_time: impl Fn() -> Result<Duration>,
) -> Result<Flood> {
    let sockets = (0..sockets).map(|_| connect(address)).collect::<Result<Vec<_>>>()?;
    let mut driver = Driver {
        open: vec![0; sockets.len()],
        sockets,
        questions,
        expected,
        next: 0,
        batch: Batch::default(),
        heard: Instant::now(),
        found: Flood::default(),
    };
    driver.run(WARM_UP)?;
    driver.found = Flood::default();
    let (start, used) = (Instant::now(), processor_time()?);
    driver.run(time)?;
    driver.found.used = processor_time()?.saturating_sub(used);
    driver.found.took = start.elapsed();
    Ok(driver.found)
}

struct Driver<'a> {
    sockets: Vec<UdpSocket>,
    /// Open questions of each socket.
    open: Vec<usize>,
    questions: &'a Questions,
    expected: Expected,
    next: usize,
    batch: Batch,
    heard: Instant,
    found: Flood,
}

impl Driver<'_> {
    fn run(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            let before = self.found.answers;
            for at in 0..self.sockets.len() {
                self.turn(at)?;
            }
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            if self.found.answers > before {
                self.heard = now;
                continue;
            }
            if now - self.heard > ANSWER_TIMEOUT {
                self.found.lost += self.open.iter().sum::<usize>() as u64;
                self.open.fill(0);
                self.heard = now;
            }
            while now.elapsed() < READ_INTERVAL {
                hint::spin_loop();
            }
        }
    }

    /// Receives the answers that one socket has, and sends as many questions.
    fn turn(&mut self, at: usize) -> Result<()> {
        let socket = &self.sockets[at];
        let window = (MAX_OPEN / self.sockets.len()).max(1);
        let chunk = MAX_BATCH.min(window);
        let count = self.batch.receive(socket, false)?;
        for packet in self.batch.packets() {
            check(packet, self.questions, self.expected, &mut self.found)?;
        }
        // A late answer to a question that was given up does not make the number of open questions smaller.
        self.open[at] = self.open[at].saturating_sub(count);
        while self.open[at] + chunk <= window {
            let numbers = self.next..self.next + chunk;
            let sent = datagrams::send(socket, numbers.map(|n| self.questions.packet(n)))?;
            self.next = self.next.wrapping_add(sent);
            self.open[at] += sent;
            if sent < chunk {
                break;
            }
        }
        Ok(())
    }
}

fn check(
    packet: &[u8],
    questions: &Questions,
    expected: Expected,
    found: &mut Flood,
) -> Result<()> {
    let Some([_, _, high, low, _, _, upper, lower]) = packet.first_chunk() else {
        bail!("an answer of {} octets", packet.len());
    };
    let (code, is_cut) = (low & 15, high & 2 != 0);
    let records = u16::from_be_bytes([*upper, *lower]);
    let fits = match expected {
        Expected::Records => code == 0 && (records > 0 || is_cut),
        Expected::NoSuchName => code == 3 && records == 0,
        Expected::Echo => true,
    };
    found.answers += 1;
    found.truncated += u64::from(is_cut);
    found.octets += packet.len() as u64;
    let is_looked_at = found.answers.is_multiple_of(CHECK_EVERY);
    if !fits || is_looked_at && !questions.is_answered_by(packet) {
        bail!("wrong answer, with code {code} and {records} records: {packet:02x?}");
    }
    Ok(())
}
