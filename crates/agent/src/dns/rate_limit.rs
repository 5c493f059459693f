//! Response rate limiting in a worker: a [`RateLimiter`] with a clock and counters, or nothing when the limit is off.

use std::time::Instant;

use dunlin_core::dns::{RateLimiter, ReplyPermit, write_slip};

use super::datagrams::DatagramBatch;
use super::random_seed;
use super::stats::{Counters, add};

/// How many replies one network gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Replies per second of each worker to one network.
    pub replies_per_second: u32,
    /// Beyond the limit, one of this many questions gets an empty reply with TC; with 0, none does.
    pub slip: u32,
}

/// One worker's limiter.
pub(super) struct Limiter<'a> {
    limiter: Option<RateLimiter>,
    counters: &'a Counters,
}

impl<'a> Limiter<'a> {
    pub(super) fn new(limit: Option<RateLimit>, counters: &'a Counters) -> Self {
        let make = |limit: RateLimit| {
            RateLimiter::new(limit.replies_per_second, limit.slip, random_seed(), Instant::now())
        };
        Self { limiter: limit.map(make), counters }
    }

    /// Whether a question is to be answered. If not, `reply` is what its sender gets instead; empty for nothing.
    pub(super) fn permits(
        &mut self,
        batch: &DatagramBatch,
        at: usize,
        reply: &mut Vec<u8>,
    ) -> bool {
        let Some(limiter) = &mut self.limiter else { return true };
        let Some(peer) = batch.peer(at) else { return true };
        match limiter.judge(peer.ip(), Instant::now()) {
            ReplyPermit::Answer => return true,
            ReplyPermit::Slip => write_slip(batch.packet(at), reply),
            ReplyPermit::Drop => reply.clear(),
        }
        let is_slipped = !reply.is_empty();
        add(
            if is_slipped { &self.counters.limit_slipped } else { &self.counters.limit_dropped },
            1,
        );
        false
    }
}
