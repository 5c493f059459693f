//! The thread of the members: it drives [`Members`], which knows the members and their state, and seals and opens their
//! datagrams.
//!
//! It has a thread and a runtime of its own, since a host that does not answer a ping in time counts as dead.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;
use dunlin_core::gossip::{Frame, Lane, Liveness, Outgoing, Peer};
use dunlin_core::host::{Members, MembersOutput, MembersSettings, PeerEvent, Trouble};
use dunlin_core::model::NodeId;
use dunlin_core::replica::MAX_AHEAD;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::event::{MembersRequest, NetEvent};
use super::keyring::handover::KeyHandover;
use super::keyring::{self, Keyring, Secret};
use super::replay::{Freshness, ReplayGuard, Stamp, Stamper};
use super::seal::{MAX_DATAGRAM, OpenError, Sealer};
use super::{Context, Fault, NetSettings};
use crate::driver::moment;

/// Datagrams taken in before timers are looked at again.
const MAX_BURST: usize = 64;
/// Time between two looks at the keys.
const KEY_INTERVAL: Duration = Duration::from_secs(1);
/// How often the ages of keys are written down again.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);
/// How long after its start an agent tolerates datagrams with keys that it does not know.
const UNKNOWN_KEY_TIMEOUT: Duration = Duration::from_secs(10);
/// The subject under which a firewall is suspected.
const UDP_SUBJECT: &str = "cluster-udp";
/// The subject under which clocks that differ are reported.
const CLOCK_SUBJECT: &str = "cluster-clock";

/// Starts the thread.
pub(super) fn start(
    context: Arc<Context>,
    settings: NetSettings,
    own: Peer,
    socket: std::net::UdpSocket,
    requests: mpsc::Receiver<MembersRequest>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guard = context.tasks().token();
    let span = tracing::Span::current();
    std::thread::Builder::new().name("members".to_owned()).spawn(move || {
        let _ends_last = guard;
        let _stands_in = span.enter();
        runtime.block_on(async move {
            match UdpSocket::from_std(socket) {
                Ok(socket) => Pump::new(context, settings, own, socket).run(requests).await,
                Err(error) => error!(%error, "no datagrams can be sent or received"),
            }
        });
    })?;
    Ok(())
}

/// The thread's loop, and what it performs outputs with.
struct Pump {
    context: Arc<Context>,
    socket: UdpSocket,
    members: Members,
    /// The links' urgent lanes, as they were last looked at.
    lanes: Arc<BTreeMap<NodeId, mpsc::Sender<Outgoing>>>,
    keyring: Keyring,
    sealer: Sealer,
    stamper: Stamper,
    replay: ReplayGuard,
    key_file: std::path::PathBuf,
    /// Whether some peer has handed its keys over since the start.
    has_joined: bool,
    is_save_due: bool,
    saving: Option<tokio::task::JoinHandle<()>>,
    start: Instant,
    next_key_look: Instant,
    next_refresh: Instant,
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl Pump {
    fn new(context: Arc<Context>, settings: NetSettings, own: Peer, socket: UdpSocket) -> Self {
        let now = Instant::now();
        let NetSettings { membership, seed, peers, data_dir, .. } = settings;
        let settings = MembersSettings { membership, seed, ..MembersSettings::default() };
        let key_file = data_dir.join(keyring::file::FILE_NAME);
        let keyring = load_keys(&key_file, now);
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut pump = Self {
            context,
            socket,
            members: Members::new(now, own, settings, peers),
            lanes: Arc::default(),
            sealer: Sealer::new(&keyring, now),
            keyring,
            stamper: Stamper::new(own.id, u64::try_from(nanos).unwrap_or_default()),
            replay: ReplayGuard::default(),
            key_file,
            has_joined: false,
            is_save_due: false,
            saving: None,
            start: now,
            next_key_look: now,
            next_refresh: now + REFRESH_INTERVAL,
            plain: Vec::with_capacity(MAX_DATAGRAM),
            sealed: Vec::with_capacity(MAX_DATAGRAM),
        };
        pump.hand_keys_over(now);
        pump
    }

    async fn run(mut self, mut requests: mpsc::Receiver<MembersRequest>) {
        let stop = self.context.stop().clone();
        let beat = self.context.shared.vitals.register("the members' thread");
        let mut buffer = [0; 2048];
        loop {
            self.perform();
            let deadline = self.members.next_deadline().min(self.next_key_look).into();
            tokio::select! {
                biased;
                () = stop.cancelled() => return beat.end(),
                readable = self.socket.readable() => {
                    self.listen();
                    if readable.is_ok() {
                        self.receive_burst(&mut buffer);
                    }
                    // A flood of datagrams must not keep the rest waiting.
                    for _ in 0..MAX_BURST {
                        let Ok(request) = requests.try_recv() else { break };
                        self.carry_out(request);
                    }
                }
                Some(request) = requests.recv() => {
                    self.listen();
                    self.carry_out(request);
                }
                () = tokio::time::sleep_until(deadline) => self.listen(),
            }
            beat.alive();
            self.members.handle_deadline(moment());
            self.look_after_keys(Instant::now());
        }
    }

    /// Takes in what the driver publishes.
    fn listen(&mut self) {
        self.members.set_summary(self.context.summary.load(Ordering::Relaxed));
        let lanes = self.context.lanes.load_full();
        if !Arc::ptr_eq(&lanes, &self.lanes) {
            self.members.set_linked(lanes.keys().copied().collect());
            self.lanes = lanes;
        }
    }

    fn receive_burst(&mut self, buffer: &mut [u8]) {
        for _ in 0..MAX_BURST {
            let Ok((octets, from)) = self.socket.try_recv_from(buffer) else { return };
            let stats = &self.context.stats;
            stats.received.fetch_add(1, Ordering::Relaxed);
            stats.received_octets.fetch_add(octets as u64, Ordering::Relaxed);
            if !self.context.side().is_deaf_to(from.ip()) {
                self.receive(&mut buffer[..octets], from);
            }
        }
    }

    /// Takes a datagram: opens it, checks that it is new, and passes on what is in it.
    fn receive(&mut self, datagram: &mut [u8], from: SocketAddr) {
        let now = Instant::now();
        let message = match self.sealer.open(datagram) {
            Ok(message) => message,
            Err(error) => {
                let fault = match error {
                    OpenError::RetiredKey(_) => Fault::Replay,
                    OpenError::Short
                    | OpenError::Version(_)
                    | OpenError::UnknownKey(_)
                    | OpenError::Damaged => Fault::Seal,
                };
                // Agents that have just met have not exchanged their keys yet.
                let is_new = now.saturating_duration_since(self.start) < UNKNOWN_KEY_TIMEOUT;
                if is_new && matches!(error, OpenError::UnknownKey(_)) {
                    self.context.transport().count(from.ip(), fault);
                    return;
                }
                return self.context.report(from.ip(), fault, &error.to_string());
            }
        };
        let Some((stamp, packet)) = Stamp::split(message) else {
            return self.context.report(from.ip(), Fault::Packet, "no stamp");
        };
        if self.replay.check(stamp) != Freshness::Fresh {
            return self.context.report(from.ip(), Fault::Replay, "a datagram came again");
        }
        self.members.handle_heard(now, stamp.node);
        self.members.handle_packet(moment(), stamp.node, packet);
        self.perform();
    }

    fn carry_out(&mut self, request: MembersRequest) {
        let now = Instant::now();
        match request {
            MembersRequest::Meet { peer, known_generation } => {
                self.members.handle_met(now, peer, known_generation);
            }
            MembersRequest::Introduce(members) => self.members.handle_introduced(now, members),
            MembersRequest::Keys(from, keys) => self.take_keys(now, from, &keys),
            MembersRequest::Packet(from, packet) => {
                self.members.handle_packet(moment(), from, &packet);
            }
            MembersRequest::Urgent { to, packet } => {
                for peer in to {
                    self.send(peer, &packet);
                }
            }
            MembersRequest::Doubt(node) => self.members.handle_refused(now, node),
            MembersRequest::Leave(done) => {
                self.members.leave(now);
                self.perform();
                // The agent may have stopped waiting.
                let _ = done.send(());
            }
        }
        self.perform();
    }

    /// Performs the outputs of [`Members`].
    fn perform(&mut self) {
        while let Some(output) = self.members.poll_output() {
            match output {
                MembersOutput::Send { to, packet, also_by_link } => {
                    self.send(to, &packet);
                    if also_by_link {
                        self.send_by_link(to.id, packet);
                    }
                }
                MembersOutput::Tell(event) => self.tell(event),
                MembersOutput::Renewed(own) => {
                    info!(generation = own.generation, "others thought that this agent was down");
                    self.context.own.store(Arc::new(own));
                }
                MembersOutput::Known(known) => self.context.known.store(Arc::new(known)),
                MembersOutput::Misbehaved { node, problem } => {
                    self.context.report(node, Fault::Packet, &problem);
                }
                MembersOutput::Trouble(trouble) => self.report(trouble),
            }
        }
        let health = u64::from(self.members.membership().health());
        self.context.stats.health.store(health, Ordering::Relaxed);
    }

    /// Tells the driver of an event. Events that are lost while the driver is far behind are told again, or come by
    /// links as well.
    fn tell(&mut self, event: PeerEvent) {
        if let PeerEvent::Member { peer, is_live } = &event {
            let (node, address) = (peer.id, peer.address);
            if *is_live {
                info!(%node, %address, "member is there");
            } else {
                warn!(%node, %address, "member is down");
            }
        }
        let is_to_store = matches!(event, PeerEvent::KnownMembers(_));
        if !self.context.hint(NetEvent::Members(event)) && is_to_store {
            self.members.handle_untold();
        }
    }

    fn send_by_link(&self, to: NodeId, packet: Vec<u8>) {
        let Some(lane) = self.lanes.get(&to) else { return };
        let octets = Frame::Packet(packet).encode();
        if lane.try_send(Outgoing { lane: Lane::Urgent, octets }).is_ok() {
            self.context.stats.tunnelled.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn send(&mut self, to: Peer, packet: &[u8]) {
        if self.context.side().is_mute_to(to.address.ip()) {
            return;
        }
        self.plain.clear();
        self.plain.extend(self.stamper.stamp().to_bytes());
        self.plain.extend(packet);
        if let Err(error) = self.sealer.seal(&self.plain, &mut self.sealed) {
            return self.context.report(to.id, Fault::Seal, &error.to_string());
        }
        // A datagram that the kernel does not take is lost, as datagrams may be.
        if let Ok(octets) = self.socket.try_send_to(&self.sealed, to.address) {
            let stats = &self.context.stats;
            stats.sent.fetch_add(1, Ordering::Relaxed);
            stats.sent_octets.fetch_add(octets as u64, Ordering::Relaxed);
        }
    }

    fn report(&self, trouble: Trouble) {
        let problems = &self.context.shared.problems;
        match trouble {
            Trouble::Clocks { example: None, .. } => problems.clear(CLOCK_SUBJECT),
            Trouble::Clocks { example: Some((node, apart)), count } => {
                warn!(%node, ?apart, "the clocks of this node and another differ");
                let (most, seconds) = (MAX_AHEAD.as_secs(), apart.as_secs());
                problems.set(
                    CLOCK_SUBJECT,
                    format!(
                        "the clock of this host and those of {count} others differ by more than {most} s, e.g. from \
                         node {node} by {seconds} s; let all hosts follow the same time servers"
                    ),
                );
            }
            Trouble::Datagrams { silent: 0 } => problems.clear(UDP_SUBJECT),
            Trouble::Datagrams { silent } => {
                let port = self.context.transport().advertise().port();
                let problem = format!(
                    "no datagram came from any of the {silent} agents that are connected by TCP; let UDP port {port} \
                     through the firewall, in both directions"
                );
                problems.set(UDP_SUBJECT, problem);
            }
        }
    }
}

/// The keys of datagrams.
impl Pump {
    fn take_keys(&mut self, now: Instant, from: NodeId, keys: &[u8]) {
        let handover = match KeyHandover::decode(keys) {
            Ok(handover) => handover,
            Err(error) => return self.context.report(from, Fault::Frame, &error.to_string()),
        };
        self.replay.announce(from, handover.next_stamp);
        // The first peer that answers knows how old the keys are; an agent that has just started does not.
        let is_first = !std::mem::replace(&mut self.has_joined, true);
        let is_new = if is_first {
            self.keyring.join(now, &handover.offers)
        } else {
            self.keyring.merge(now, &handover.offers)
        };
        if is_new || is_first {
            self.hand_keys_over(now);
            // The peer could not read what it was asked before.
            self.members.ask(now, from);
        }
    }

    /// Once a second: makes a new key in time, and saves and sends what changed.
    fn look_after_keys(&mut self, now: Instant) {
        if self.next_key_look <= now {
            self.next_key_look = now + KEY_INTERVAL;
            self.rotate_keys(now);
            self.refresh_keys(now);
        }
    }

    fn rotate_keys(&mut self, now: Instant) {
        let membership = self.members.membership();
        let own = membership.own().id;
        let is_first = membership
            .members()
            .all(|(peer, liveness)| liveness == Liveness::Down || peer.id > own);
        if is_first && self.keyring.should_rotate(now, self.sealer.sealed()) {
            if let Some(secret) = random_secret() {
                self.keyring.rotate(now, secret);
                info!("a new key seals datagrams soon");
            }
            self.hand_keys_over(now);
        }
        self.sealer.update(&self.keyring, now);
    }

    /// Uses, saves and sends the keys as they are now.
    fn hand_keys_over(&mut self, now: Instant) {
        self.sealer.update(&self.keyring, now);
        self.is_save_due = true;
        self.save_keys(now);
        self.context.keys.send_replace(self.handover(now));
    }

    fn handover(&self, now: Instant) -> Arc<[u8]> {
        let offers = self.keyring.offers(now);
        let handover = KeyHandover { offers, next_stamp: self.stamper.next_number() };
        handover.encode().into()
    }

    /// The ages of keys grow: what is saved and what the next link is told must not say that a key is younger than it
    /// is.
    fn refresh_keys(&mut self, now: Instant) {
        if self.next_refresh <= now {
            self.next_refresh = now + REFRESH_INTERVAL;
            self.is_save_due = true;
            let handover = self.handover(now);
            self.context.keys.send_if_modified(|keys| {
                *keys = handover;
                false
            });
        }
        self.save_keys(now);
    }

    /// Saves off this thread, since a disk may take its time; one save at a time.
    fn save_keys(&mut self, now: Instant) {
        let is_saving = self.saving.as_ref().is_some_and(|saving| !saving.is_finished());
        if is_saving || !std::mem::take(&mut self.is_save_due) {
            return;
        }
        let (path, offers) = (self.key_file.clone(), self.keyring.offers(now));
        self.saving = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = keyring::file::save(&path, &offers) {
                warn!(%error, "the cluster's keys could not be saved; they are asked for at the next start");
            }
        }));
    }
}

fn random_secret() -> Option<Secret> {
    let mut octets = [0; 32];
    rand::fill(&mut octets).ok()?;
    Some(Secret::from_bytes(octets))
}

/// Loads the keys from before the last stop. Without any, the agent makes one: the keys of agents that meet are united.
fn load_keys(path: &std::path::Path, now: Instant) -> Keyring {
    let mut keyring = Keyring::new();
    match keyring::file::load(path) {
        Ok(offers) => _ = keyring.join(now, &offers),
        Err(error) => warn!(%error, "no keys from before; they come from the other agents"),
    }
    if keyring.is_empty()
        && let Some(secret) = random_secret()
    {
        keyring.rotate(now, secret);
    }
    keyring
}
