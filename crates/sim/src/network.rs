//! What the network does to packets and streams: how long they take, which are lost, and which nodes cannot reach
//! each other.

use std::collections::BTreeMap;
use std::time::Duration;

use dunlin_core::random::Random;

/// The conditions between nodes, which are known by their numbers here.
#[derive(Debug)]
pub(crate) struct Network {
    /// The zone of each node.
    pub(crate) zones: Vec<usize>,
    pub(crate) within_zone: Duration,
    pub(crate) between_zones: Duration,
    /// Latency varies by up to this share.
    pub(crate) jitter: f64,
    /// Shares of packets that are lost, come twice, or come late.
    pub(crate) loss: f64,
    pub(crate) duplication: f64,
    pub(crate) reordering: f64,
    /// Octets a second of one stream.
    pub(crate) bandwidth: u64,
    /// Streams between these nodes, in this direction, have another bandwidth.
    pub(crate) slow: BTreeMap<(usize, usize), u64>,
    /// Directions in which nothing comes through, by the partitions that cut them.
    cuts: BTreeMap<(usize, usize), u32>,
    pub(crate) random: Random,
}

impl Network {
    pub(crate) fn new(zones: Vec<usize>, seed: u64) -> Self {
        Self {
            zones,
            within_zone: Duration::from_millis(1),
            between_zones: Duration::from_millis(80),
            jitter: 0.1,
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            bandwidth: 12_500_000,
            slow: BTreeMap::new(),
            cuts: BTreeMap::new(),
            random: Random::new(seed),
        }
    }

    /// How long something takes from one node to another.
    pub(crate) fn latency(&mut self, from: usize, to: usize) -> Duration {
        let is_near = self.zones[from] == self.zones[to];
        let usual = if is_near { self.within_zone } else { self.between_zones };
        usual.mul_f64(1.0 + self.jitter * self.random.fraction())
    }

    /// After which times a packet arrives; none if it is lost.
    pub(crate) fn packet_arrivals(&mut self, from: usize, to: usize) -> [Option<Duration>; 2] {
        if self.is_cut(from, to) || self.random.fraction() < self.loss {
            return [None, None];
        }
        let mut latency = self.latency(from, to);
        if self.reordering > 0.0 && self.random.fraction() < self.reordering {
            latency += latency.mul_f64(2.0 * self.random.fraction());
        }
        let is_double = self.duplication > 0.0 && self.random.fraction() < self.duplication;
        let again = is_double.then(|| latency + self.latency(from, to));
        [Some(latency), again]
    }

    /// How long a frame of this size takes on a stream: TCP repeats what was lost, which takes time.
    pub(crate) fn frame_latency(&mut self, from: usize, to: usize, octets: usize) -> Duration {
        let mut latency = self.latency(from, to);
        let round_trip = 2 * latency;
        for _ in 0..octets.div_ceil(1_400) {
            if self.loss > 0.0 && self.random.fraction() < self.loss {
                latency += round_trip + Duration::from_millis(30);
            }
        }
        latency
    }

    /// How long a frame occupies the stream.
    pub(crate) fn transmission(&self, from: usize, to: usize, octets: usize) -> Duration {
        let bandwidth = self.slow.get(&(from, to)).copied().unwrap_or(self.bandwidth);
        Duration::from_nanos(octets as u64 * 1_000_000_000 / bandwidth.max(1))
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        !self.cuts.is_empty() && self.cuts.contains_key(&(from, to))
    }

    /// Cuts all directions from the ones to the others.
    pub(crate) fn cut(&mut self, pairs: &[(usize, usize)]) {
        for pair in pairs {
            *self.cuts.entry(*pair).or_insert(0) += 1;
        }
    }

    /// Takes one cut back.
    pub(crate) fn mend(&mut self, pairs: &[(usize, usize)]) {
        for pair in pairs {
            if let Some(count) = self.cuts.get_mut(pair) {
                *count -= 1;
                if *count == 0 {
                    self.cuts.remove(pair);
                }
            }
        }
    }
}
