//! A UDP worker: one thread, one socket, one cache. It waits for nothing but its socket.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use std::{array, io, thread};

use arc_swap::{ArcSwap, Cache};
use dunlin_core::catalog::{CatalogId, CatalogView};
use dunlin_core::dns::{
    AbsentNames, Answer, DnsOutcome, DnsSettings, Query, QuestionKey, Rcode, Reject, Resolution,
    Shuffler, Transport, Written, resolve,
};
use tokio::sync::mpsc;

use super::cache::{AnswerCache, HashedQuestion};
use super::datagrams::{DatagramBatch, MAX_BATCH};
use super::forward::{Job, ReplyTo};
use super::random_seed;
use super::rate_limit::{Limiter, RateLimit};
use super::stats::{Counters, DnsStats, add};

/// Time between two looks of a worker without questions whether it should stop.
pub(super) const STOP_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Time until a worker receives again after an error other than the timeout. The socket may go on failing, and the loop
/// must not spin.
const RECEIVE_RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// What the workers, the streams and the server share.
#[derive(Debug)]
pub(super) struct DnsShared {
    pub(super) view: Arc<ArcSwap<CatalogView>>,
    pub(super) settings: Arc<ArcSwap<DnsSettings>>,
    pub(super) stats: Arc<DnsStats>,
    pub(super) forward: mpsc::Sender<Job>,
    pub(super) rate_limit: Option<RateLimit>,
    pub(super) stop: AtomicBool,
}

/// Serves one socket until told to stop.
pub(super) fn serve(socket: &Arc<UdpSocket>, index: usize, max_entries: usize, shared: &DnsShared) {
    let (view, settings) = (Arc::clone(&shared.view), Arc::clone(&shared.settings));
    let mut answerer = Answerer::new(view, settings, max_entries, &shared.stats, index);
    let mut limiter = Limiter::new(shared.rate_limit, answerer.counters);
    let mut batch = DatagramBatch::new();
    let mut replies: Vec<Vec<u8>> = vec![Vec::new(); MAX_BATCH];
    while !shared.stop.load(Relaxed) {
        let count = match batch.receive(socket) {
            Ok(count) => count,
            Err(error) => {
                let expected = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted];
                if !expected.contains(&error.kind()) {
                    tracing::warn!(%error, worker = index, "DNS socket fails to receive");
                    thread::sleep(RECEIVE_RETRY_INTERVAL);
                }
                continue;
            }
        };
        add(&answerer.counters.udp_queries, count as u64);
        answerer.refresh();
        let asked: [_; MAX_BATCH] =
            array::from_fn(|at| (at < count).then(|| answerer.read(batch.packet(at))));
        answerer.answers.bring_near(asked.iter().flatten().flatten().map(|asked| &asked.question));
        for (at, (asked, reply)) in asked.iter().flatten().zip(&mut replies).enumerate() {
            if !limiter.permits(&batch, at, reply) {
                continue;
            }
            let packet = batch.packet(at);
            let outcome = match asked {
                Ok(asked) => answerer.answer(asked, reply),
                Err(reject) => answerer.reject(*reject, packet, reply),
            };
            if outcome == DnsOutcome::Forward {
                let job = batch.peer(at).map(|peer| Job {
                    packet: packet.to_vec(),
                    reply_to: ReplyTo::Udp { socket: Arc::clone(socket), peer },
                });
                answerer.hand_over(job, &shared.forward, packet, reply);
            }
        }
        let dropped = batch.send(socket, &replies[..count]);
        if dropped > 0 {
            add(&answerer.counters.dropped, dropped as u64);
        }
    }
}

struct Answerer<'a> {
    view: Cache<Arc<ArcSwap<CatalogView>>, Arc<CatalogView>>,
    settings: Cache<Arc<ArcSwap<DnsSettings>>, Arc<DnsSettings>>,
    last_settings: Arc<DnsSettings>,
    /// [`CatalogView::catalog`] of the view that answers were last made from.
    catalog: CatalogId,
    answers: AnswerCache,
    absent: AbsentNames,
    shuffler: Shuffler,
    counters: &'a Counters,
}

/// A question that is well-formed.
struct Asked<'p> {
    query: Query<'p>,
    question: HashedQuestion,
}

impl<'a> Answerer<'a> {
    fn new(
        view: Arc<ArcSwap<CatalogView>>,
        settings: Arc<ArcSwap<DnsSettings>>,
        max_entries: usize,
        stats: &'a DnsStats,
        index: usize,
    ) -> Self {
        Self {
            last_settings: settings.load_full(),
            catalog: view.load().catalog().clone(),
            view: Cache::new(view),
            settings: Cache::new(settings),
            answers: AnswerCache::new(max_entries, stats.workers()),
            absent: AbsentNames::default(),
            shuffler: Shuffler::new(random_seed()),
            counters: stats.worker(index),
        }
    }
}

impl Answerer<'_> {
    /// Forgets the answers that were made with other settings.
    fn refresh(&mut self) {
        let settings = self.settings.load();
        if !Arc::ptr_eq(settings, &self.last_settings) {
            self.last_settings = Arc::clone(settings);
            self.answers.clear();
            self.absent.clear();
        }
    }

    fn read<'p>(&self, packet: &'p [u8]) -> Result<Asked<'p>, Reject> {
        let query = Query::parse(packet)?;
        Ok(Asked { query, question: self.answers.question(QuestionKey::of(&query)) })
    }

    fn reject(&self, reject: Reject, packet: &[u8], out: &mut Vec<u8>) -> DnsOutcome {
        match reject.write(packet, out) {
            Some(rcode) => self.replied(rcode),
            None => {
                add(&self.counters.dropped, 1);
                DnsOutcome::Silent
            }
        }
    }

    /// Writes the reply to a question, or leaves `out` empty when there is none to send now.
    fn answer(&mut self, Asked { query, question }: &Asked<'_>, out: &mut Vec<u8>) -> DnsOutcome {
        let settings = &*self.last_settings;
        let limit = query.reply_limit(settings, Transport::Udp);
        if let Some(rcode) = query.refusal() {
            Answer::bare(settings, rcode).write(query, limit, &mut self.shuffler, out);
            return self.replied(rcode);
        }
        let view = self.view.load();
        if *view.catalog() != self.catalog {
            // The driver was restarted, and its index counts on from the one that was stored.
            self.catalog = view.catalog().clone();
            self.answers.clear();
            self.absent.clear();
        }
        if let Some(answer) = self.answers.find(question, view) {
            let written = answer.write(query, limit, &mut self.shuffler, out);
            add(&self.counters.cache_hits, 1);
            self.counters.replied(written);
            return DnsOutcome::Reply(written);
        }
        let written = match resolve(query, &question.key, view, settings) {
            Resolution::Answer(answer) => {
                let written = answer.write(query, limit, &mut self.shuffler, out);
                self.answers.keep(question, view, answer);
                written
            }
            Resolution::NoSuchName => {
                let answer = self.absent.answer(&question.key, view, settings);
                answer.write(query, limit, &mut self.shuffler, out)
            }
            Resolution::Forward => {
                out.clear();
                return DnsOutcome::Forward;
            }
        };
        add(&self.counters.cache_misses, 1);
        self.counters.replied(written);
        DnsOutcome::Reply(written)
    }

    fn replied(&self, rcode: Rcode) -> DnsOutcome {
        let written = Written { rcode, truncated: false };
        self.counters.replied(written);
        DnsOutcome::Reply(written)
    }

    /// Gives a question to the forwarder. When the forwarder is at its limit, the client gets SERVFAIL at once.
    fn hand_over(
        &mut self,
        job: Option<Job>,
        forward: &mpsc::Sender<Job>,
        packet: &[u8],
        out: &mut Vec<u8>,
    ) {
        add(&self.counters.forwarded, 1);
        let is_taken = job.is_some_and(|job| forward.try_send(job).is_ok());
        if !is_taken && let Ok(query) = Query::parse(packet) {
            let answer = Answer::bare(&self.last_settings, Rcode::ServFail);
            let limit = query.reply_limit(&self.last_settings, Transport::Udp);
            let written = answer.write(&query, limit, &mut self.shuffler, out);
            add(&self.counters.forward_failures, 1);
            self.counters.replied(written);
        }
    }
}

/// A worker without a socket, for counting what an answer costs.
#[doc(hidden)]
pub struct Bare<'a>(Answerer<'a>);

impl<'a> Bare<'a> {
    /// A worker that answers from a view and keeps at most `max_entries` answers.
    pub fn new(
        view: Arc<ArcSwap<CatalogView>>,
        settings: DnsSettings,
        max_entries: usize,
        stats: &'a DnsStats,
    ) -> Self {
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        Self(Answerer::new(view, settings, max_entries, stats, 0))
    }

    /// Answers one question. False if there is no answer.
    pub fn answer(&mut self, packet: &[u8], out: &mut Vec<u8>) -> bool {
        self.0.refresh();
        let outcome = self.0.read(packet).map(|asked| self.0.answer(&asked, out));
        matches!(outcome, Ok(DnsOutcome::Reply(_)))
    }
}
