//! Response rate limiting, so that questions with a forged sender cannot turn this server against others.
//!
//! The victim of an attack by forged senders is the network from which the questions seem to come, so replies are
//! counted for each network (IPv4 /24, IPv6 /56). Beyond the limit most questions get no reply. At regular distances one
//! gets an empty reply with TC, which is no larger than the question and makes a real client ask over TCP. This is the
//! method of NSD and BIND ("Response Rate Limiting", Vixie and Schryver, 2012), except that all replies count alike.
//!
//! The table has a fixed size. Networks that fall on the same bucket replace each other, and which networks these are
//! depends on a secret key.

use std::net::IpAddr;
use std::time::Instant;

use twox_hash::XxHash3_64;

use super::MIN_UDP_OCTETS;
use super::query::{FLAG_QR, FLAG_TC, Query, opt_record};

/// The number of networks that are counted at a time.
const BUCKETS: usize = 1 << 16;
/// The cost of one reply. Allowances are kept in thousandths of a reply.
const REPLY: u64 = 1_000;

/// How a question may be answered under the rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyPermit {
    /// The question is answered.
    Answer,
    /// The question gets the empty reply with TC of [`write_slip`].
    Slip,
    /// The question gets no reply.
    Drop,
}

/// Counts replies to networks. Each worker has one of its own, since each question changes it.
#[derive(Debug)]
pub struct RateLimiter {
    replies_per_second: u32,
    slip: u32,
    key: u64,
    started: Instant,
    buckets: Box<[Bucket]>,
}

/// The allowance of one network, which is refilled as time passes.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    /// The hash of the network; another network on this bucket starts with a full allowance.
    network: u64,
    /// When the allowance was last refilled, in milliseconds since the start.
    filled_ms: u64,
    /// The replies that may still be sent, in thousandths.
    allowance: u64,
    /// The number of questions beyond the limit.
    excess: u32,
}

impl RateLimiter {
    /// A limiter that allows `replies_per_second` to each network, at least 1. Beyond the limit each `slip`-th question
    /// gets an empty reply; with 0 none does. `key` has to be secret.
    #[must_use]
    pub fn new(replies_per_second: u32, slip: u32, key: u64, now: Instant) -> Self {
        let buckets = vec![Bucket::default(); BUCKETS].into();
        Self { replies_per_second: replies_per_second.max(1), slip, key, started: now, buckets }
    }

    /// Decides about a question, and counts its reply.
    pub fn judge(&mut self, client: IpAddr, now: Instant) -> ReplyPermit {
        let network = self.network(client);
        let now_ms = now.saturating_duration_since(self.started);
        let now_ms = u64::try_from(now_ms.as_millis()).unwrap_or(u64::MAX);
        let full = u64::from(self.replies_per_second) * REPLY;
        let at = usize::try_from(network % BUCKETS as u64).unwrap_or(0);
        let bucket = &mut self.buckets[at];
        if bucket.network != network {
            *bucket = Bucket { network, filled_ms: now_ms, allowance: full, excess: 0 };
        }
        // A thousandth of a second earns as many thousandths of replies as a second earns replies.
        let passed = now_ms.saturating_sub(bucket.filled_ms);
        let earned = passed.saturating_mul(u64::from(self.replies_per_second));
        bucket.allowance = bucket.allowance.saturating_add(earned).min(full);
        bucket.filled_ms = bucket.filled_ms.max(now_ms);
        if bucket.allowance >= REPLY {
            bucket.allowance -= REPLY;
            return ReplyPermit::Answer;
        }
        bucket.excess = bucket.excess.wrapping_add(1);
        if self.slip > 0 && bucket.excess.is_multiple_of(self.slip) {
            return ReplyPermit::Slip;
        }
        ReplyPermit::Drop
    }

    /// The hash of the client's network, which is never 0.
    fn network(&self, client: IpAddr) -> u64 {
        let hash = |prefix: &[u8]| XxHash3_64::oneshot_with_seed(self.key, prefix).max(1);
        match client.to_canonical() {
            IpAddr::V4(v4) => hash(&v4.octets()[..3]),
            IpAddr::V6(v6) => hash(&v6.octets()[..7]),
        }
    }
}

/// Writes the reply to each `slip`-th question beyond the limit. It has no records and the flag TC (RFC 1035 §4.1.1), so
/// that a real client asks again over TCP. `out` stays empty if the packet is not a question.
pub fn write_slip(packet: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let Ok(query) = Query::parse(packet) else { return };
    let edns = query.edns();
    out.extend_from_slice(&query.id().to_be_bytes());
    out.extend_from_slice(&(FLAG_QR | FLAG_TC | query.repeated_flags()).to_be_bytes());
    let additional = u8::from(edns.is_some());
    out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, additional]);
    out.extend_from_slice(query.question());
    if let Some(edns) = edns {
        // A question with EDNS gets a reply with EDNS (RFC 6891 §6.1.1).
        out.extend(opt_record(MIN_UDP_OCTETS, 0, edns.dnssec_ok));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "an Instant has no other beginning")]
    fn start() -> Instant {
        Instant::now()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn count(
        limiter: &mut RateLimiter,
        client: &str,
        questions: usize,
        now: Instant,
    ) -> [usize; 3] {
        let mut counts = [0; 3];
        for _ in 0..questions {
            counts[limiter.judge(ip(client), now) as usize] += 1;
        }
        counts
    }

    #[test]
    fn a_network_gets_its_replies_per_second_and_now_and_then_an_empty_one() {
        let start = start();
        let mut limiter = RateLimiter::new(100, 2, 7, start);
        assert_eq!(count(&mut limiter, "192.0.2.1", 100, start), [100, 0, 0]);
        assert_eq!(count(&mut limiter, "192.0.2.77", 10, start), [0, 5, 5], "the same network");
        assert_eq!(count(&mut limiter, "192.0.3.1", 1, start), [1, 0, 0], "another network");
        assert_eq!(count(&mut limiter, "192.0.2.1", 50, start + SECOND / 4), [25, 12, 13]);
        // A network that was silent for long may not send more than one second's replies at once.
        assert_eq!(count(&mut limiter, "192.0.2.1", 101, start + 3600 * SECOND), [100, 1, 0]);
        assert_eq!(count(&mut limiter, "192.0.2.1", 1, start), [0, 0, 1], "time does not go back");
    }

    #[test]
    fn an_ipv6_network_has_56_bits_and_a_mapped_address_is_ipv4() {
        let start = start();
        let mut limiter = RateLimiter::new(1, 0, 7, start);
        for (client, counts) in [
            ("2001:db8:0:aa00::1", [1, 0, 0]),
            ("2001:db8:0:aaff:1::", [0, 0, 1]),
            ("2001:db8:0:ab00::1", [1, 0, 0]),
            ("192.0.2.1", [1, 0, 0]),
            ("::ffff:192.0.2.9", [0, 0, 1]),
        ] {
            assert_eq!(count(&mut limiter, client, 1, start), counts, "{client}");
        }
    }

    #[test]
    fn slow_clients_earn_their_reply_by_and_by() {
        let start = start();
        let mut limiter = RateLimiter::new(1, 1, 7, start);
        let at = |ms| start + Duration::from_millis(ms);
        const A: ReplyPermit = ReplyPermit::Answer;
        const S: ReplyPermit = ReplyPermit::Slip;
        let judged =
            [0, 1, 500, 999, 1000, 1001, 2000].map(|ms| limiter.judge(ip("10.0.0.1"), at(ms)));
        assert_eq!(judged, [A, S, S, S, A, S, A]);
    }

    #[test]
    fn a_slipped_reply_is_the_question_with_tc_and_no_larger() {
        let question = b"\x03web\x06dunlin\x08internal\x00\x00\x01\x00\x01";
        let header =
            |additional| [&[0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0][..], &[additional]].concat();
        let plain = [&header(0)[..], question].concat();
        let opt = [0, 0, 41, 0x10, 0, 0, 0, 0x80, 0, 0, 0];
        let with_edns = [&header(1)[..], question, &opt].concat();
        let mut out = vec![1];
        for packet in [&plain, &with_edns] {
            write_slip(packet, &mut out);
            assert_eq!(out.len(), packet.len());
            assert_eq!(out[..8], [0xab, 0xcd, 0x83, 0, 0, 1, 0, 0]);
            assert_eq!(out[12..12 + question.len()], question[..]);
        }
        assert_eq!(out[12 + question.len()..], [0, 0, 41, 2, 0, 0, 0, 0x80, 0, 0, 0]);
        for silent in [&plain[..20], b"", &out.clone()] {
            write_slip(silent, &mut out);
            assert!(out.is_empty(), "neither half a question nor a reply gets one");
        }
    }

    #[test]
    fn many_networks_never_take_more_than_the_table() {
        let start = start();
        let mut limiter = RateLimiter::new(1, 0, 7, start);
        let size = limiter.buckets.len();
        for n in 0..200_000_u32 {
            limiter.judge(IpAddr::V4((n << 8).into()), start);
        }
        assert_eq!(limiter.buckets.len(), size);
    }
}
