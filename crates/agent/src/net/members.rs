//! The members' thread: membership, sealed datagrams, keys, round-trip times.
//!
//! It has a thread and a runtime of its own, since whoever does not answer a probe in time counts as dead.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;
use dunlin_core::catalog::CatalogView;
use dunlin_core::gossip::{
    Distances, Frame, Lane, Liveness, Membership, MembershipOutput, Outgoing, Packet, Peer,
};
use dunlin_core::model::{NodeId, Timestamp, ZoneName};
use dunlin_core::random::Random;
use dunlin_core::replica::MAX_AHEAD;
use serde::{Deserialize, Serialize};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::event::{Event, Measured, Request};
use super::keyring::{self, KeyOffer, Keyring, Secret};
use super::replay::{Freshness, ReplayGuard, Stamp, Stamper};
use super::seal::{MAX_DATAGRAM, OpenError, Sealer};
use super::{Context, Fault, Settings};

/// Datagrams taken in before timers are looked at again.
const BURST: usize = 64;
/// Time between two rounds of echoes, and of telling the rest of the agent who is there.
const PERIOD: Duration = Duration::from_secs(1);
/// Members whose round-trip time is measured in each round.
const ECHOES: usize = 3;
/// Time between two looks at the order of zones and at what is to be stored.
const SLOW_PERIOD: Duration = Duration::from_secs(5);
/// Who came or went is stored this much later, with others that do: an agent that starts again must not take for
/// down who has come back since.
const STORE_DELAY: Duration = Duration::from_millis(100);
/// The least time between two such.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// For how long after its start an agent does not complain of keys that it does not know.
const NEW: Duration = Duration::from_secs(10);
/// Members that a peer is told of.
const MOST_TOLD: usize = 500;
/// How often the ages of keys are written down again.
const REFRESH_PERIOD: Duration = Duration::from_secs(60);
/// A linked member from which no datagram came for so long is also sent packets on its link.
const SILENCE: Duration = Duration::from_millis(1500);
/// For how long datagrams of all linked members may be missing until a firewall is suspected.
const BLOCKED_AFTER: Duration = Duration::from_secs(10);
/// The subject under which a firewall is suspected.
const UDP: &str = "cluster-udp";
/// The subject under which clocks that differ are reported.
const CLOCK: &str = "cluster-clock";

/// Numbers for people.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// Datagrams sent and received, and their octets without headers.
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) sent_octets: AtomicU64,
    pub(crate) received_octets: AtomicU64,
    /// Packets that went by links.
    pub(crate) tunnelled: AtomicU64,
    /// The local health score.
    pub(crate) health: AtomicU64,
}

/// What [`Frame::Keys`] holds.
#[derive(Debug, Serialize, Deserialize)]
struct KeyHandover {
    offers: Vec<KeyOffer>,
    /// The number of the sender's next stamp.
    next_stamp: u64,
}

/// Starts the thread.
pub(super) fn start(
    context: Arc<Context>,
    settings: Settings,
    own: Peer,
    socket: std::net::UdpSocket,
    requests: mpsc::Receiver<Request>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guard = context.tasks.token();
    let span = tracing::Span::current();
    std::thread::Builder::new().name("members".to_owned()).spawn(move || {
        let _ends_last = guard;
        let _stands_in = span.enter();
        runtime.block_on(async move {
            match UdpSocket::from_std(socket) {
                Ok(socket) => Members::new(context, settings, own, socket).run(requests).await,
                Err(error) => error!(%error, "no datagrams can be sent or received"),
            }
        });
    })?;
    Ok(())
}

struct Members {
    context: Arc<Context>,
    socket: UdpSocket,
    membership: Membership,
    distances: Distances,
    keyring: Keyring,
    sealer: Sealer,
    stamper: Stamper,
    replay: ReplayGuard,
    /// When a datagram last came from each node, or since when one is missing.
    heard: BTreeMap<NodeId, Instant>,
    /// Nodes whose wall clocks are far from the own one, and how far.
    wrong_clocks: BTreeMap<NodeId, Duration>,
    key_file: std::path::PathBuf,
    /// Whether some peer has handed its keys over since the start.
    has_joined: bool,
    is_save_due: bool,
    saving: Option<tokio::task::JoinHandle<()>>,
    next_refresh: Instant,
    last_stored: Option<Instant>,
    start: Instant,
    next_round: Instant,
    next_slow_round: Instant,
    stored: Vec<(NodeId, Vec<u8>)>,
    random: Random,
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl Members {
    fn new(context: Arc<Context>, settings: Settings, own: Peer, socket: UdpSocket) -> Self {
        let now = Instant::now();
        let mut membership = Membership::new(own, settings.membership, settings.seed);
        membership.introduce(now, settings.peers);
        let key_file = settings.data_dir.join(keyring::file::FILE_NAME);
        let keyring = load_keys(&key_file, now);
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut members = Self {
            context,
            socket,
            membership,
            distances: Distances::default(),
            sealer: Sealer::new(&keyring, now),
            keyring,
            stamper: Stamper::new(own.id, u64::try_from(nanos).unwrap_or_default()),
            replay: ReplayGuard::default(),
            heard: BTreeMap::new(),
            wrong_clocks: BTreeMap::new(),
            key_file,
            has_joined: false,
            is_save_due: false,
            saving: None,
            next_refresh: now + REFRESH_PERIOD,
            last_stored: None,
            start: now,
            next_round: now,
            next_slow_round: now + PERIOD,
            stored: Vec::new(),
            random: Random::new(settings.seed ^ 0x6d65_6d62),
            plain: Vec::with_capacity(MAX_DATAGRAM),
            sealed: Vec::with_capacity(MAX_DATAGRAM),
        };
        members.hand_keys_over(now);
        members
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let stop = self.context.stop.clone();
        let beat = self.context.shared.vitals.register("the members' thread");
        let mut buffer = [0; 2048];
        loop {
            self.perform();
            let deadline = self.next_deadline().into();
            tokio::select! {
                biased;
                () = stop.cancelled() => return beat.end(),
                readable = self.socket.readable() => {
                    if readable.is_ok() {
                        self.receive_burst(&mut buffer);
                    }
                    // A flood of datagrams must not keep the rest waiting.
                    for _ in 0..BURST {
                        let Ok(request) = requests.try_recv() else { break };
                        self.carry_out(request);
                    }
                }
                Some(request) = requests.recv() => self.carry_out(request),
                () = tokio::time::sleep_until(deadline) => {}
            }
            let now = Instant::now();
            beat.alive();
            self.membership.handle_deadline(now);
            if self.next_round <= now {
                self.round(now);
            }
            if self.next_slow_round <= now {
                self.slow_round(now);
            }
        }
    }

    fn next_deadline(&self) -> Instant {
        let membership = self.membership.next_deadline();
        let round = self.next_round.min(self.next_slow_round);
        membership.map_or(round, |at| at.min(round))
    }

    fn receive_burst(&mut self, buffer: &mut [u8]) {
        for _ in 0..BURST {
            let Ok((octets, from)) = self.socket.try_recv_from(buffer) else { return };
            let stats = &self.context.stats;
            stats.received.fetch_add(1, Ordering::Relaxed);
            stats.received_octets.fetch_add(octets as u64, Ordering::Relaxed);
            if !self.context.side.is_deaf_to(from.ip()) {
                self.receive(&mut buffer[..octets], from);
            }
        }
    }

    /// Takes a datagram: opens it, sees that it is new, and passes on what is in it.
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
                // Agents that have just met have yet to exchange their keys.
                let is_new = now.saturating_duration_since(self.start) < NEW;
                if is_new && matches!(error, OpenError::UnknownKey(_)) {
                    self.context.faults.note(now, from.ip().into(), fault);
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
        let (node, packet) = (stamp.node, packet.to_vec());
        self.heard.insert(node, now);
        self.take_packet(now, node, from.ip(), &packet);
    }

    fn take_packet(&mut self, now: Instant, from: NodeId, ip: IpAddr, packet: &[u8]) {
        self.membership.handle_heard(now, from);
        match Packet::decode(packet) {
            Ok(Packet::Membership { summary, packet }) => {
                if let Err(error) = self.membership.handle_packet(now, from, &packet) {
                    self.context.report(from, Fault::Packet, &error.to_string());
                }
                if summary != self.context.summary.load(Ordering::Relaxed) {
                    // Only a hint: others follow.
                    let _ = self.context.events.try_send(Event::Summary { from, summary });
                }
            }
            Ok(Packet::Urgent(delta)) => {
                // Lost when the driver is far behind; it comes by links as well.
                self.context.hint(Event::Urgent { from, delta });
            }
            Ok(Packet::Echo { stamp }) => {
                if let Some((peer, _)) = self.membership.peer(from) {
                    let wall = Timestamp::from_system(SystemTime::now());
                    self.send(now, peer, &Packet::EchoReply { stamp, wall });
                }
            }
            Ok(Packet::EchoReply { stamp, wall }) => {
                let since_start = now.saturating_duration_since(self.start);
                let rtt = since_start.checked_sub(Duration::from_nanos(stamp));
                if let Some(rtt) = rtt {
                    self.compare_clocks(from, wall, rtt);
                    self.distances.handle_rtt(from, rtt);
                }
            }
            Err(error) => self.context.report(ip, Fault::Packet, &error.to_string()),
        }
    }

    fn carry_out(&mut self, request: Request) {
        let now = Instant::now();
        match request {
            Request::Meet { peer, known_generation } => {
                self.heard.insert(peer.id, now);
                self.membership.meet(now, peer, known_generation);
            }
            Request::Introduce(members) => self.membership.introduce(now, members),
            Request::Keys(from, keys) => self.take_keys(now, from, &keys),
            Request::Packet(from, packet) => {
                self.take_packet(now, from, IpAddr::from([0, 0, 0, 0]), &packet);
            }
            Request::Urgent { to, packet } => {
                for peer in to {
                    self.send_encoded(peer, &packet);
                }
            }
            Request::Doubt(node) => self.membership.doubt(now, node),
            Request::Leave(done) => {
                self.membership.leave(now);
                self.perform();
                // Whoever waited may have given up.
                let _ = done.send(());
            }
        }
    }

    /// Does what membership wants done.
    fn perform(&mut self) {
        let now = Instant::now();
        let mut has_come = false;
        while let Some(output) = self.membership.poll_output() {
            match output {
                MembershipOutput::Send { to, packet } => {
                    let summary = self.context.summary.load(Ordering::Relaxed);
                    self.send(now, to, &Packet::Membership { summary, packet });
                }
                MembershipOutput::Echo { to } => self.echo(now, to),
                MembershipOutput::Up(peer) => {
                    has_come = true;
                    info!(node = %peer.id, address = %peer.address, "member is there");
                    self.hasten_slow_round(now);
                    self.context.hint(Event::Member { peer, is_live: true });
                }
                MembershipOutput::Down(peer) => {
                    warn!(node = %peer.id, address = %peer.address, "member is down");
                    self.hasten_slow_round(now);
                    self.heard.remove(&peer.id);
                    self.wrong_clocks.remove(&peer.id);
                    self.distances.forget(peer.id);
                    self.context.hint(Event::Member { peer, is_live: false });
                }
                MembershipOutput::Renewed(own) => {
                    info!(generation = own.generation, "others thought that this agent was down");
                    self.context.own.store(Arc::new(own));
                }
            }
        }
        // A newcomer is told of the one that came right before it. With many, each second has to do.
        if has_come && self.membership.live_count() <= MOST_TOLD {
            self.publish_known();
        }
        let health = u64::from(self.membership.health());
        self.context.stats.health.store(health, Ordering::Relaxed);
    }

    fn echo(&mut self, now: Instant, to: Peer) {
        let since_start = now.saturating_duration_since(self.start).as_nanos();
        let stamp = u64::try_from(since_start).unwrap_or_default();
        self.send(now, to, &Packet::Echo { stamp });
    }

    /// Sends a packet; also on the link, if there is one and datagrams seem not to get through.
    fn send(&mut self, now: Instant, to: Peer, packet: &Packet) {
        let mut octets = Vec::with_capacity(MAX_DATAGRAM);
        packet.encode(&mut octets);
        self.send_encoded(to, &octets);
        let lanes = self.context.lanes.load();
        let Some(lane) = lanes.get(&to.id) else { return };
        let heard = *self.heard.entry(to.id).or_insert(now);
        if now.saturating_duration_since(heard) > SILENCE {
            let octets = Frame::Packet(octets).encode();
            if lane.try_send(Outgoing { lane: Lane::Urgent, octets }).is_ok() {
                self.context.stats.tunnelled.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn send_encoded(&mut self, to: Peer, packet: &[u8]) {
        if self.context.side.is_mute_to(to.address.ip()) {
            return;
        }
        self.plain.clear();
        self.plain.extend(self.stamper.stamp().to_bytes());
        self.plain.extend(packet);
        if let Err(error) = self.sealer.seal(&self.plain, &mut self.sealed) {
            return self.context.report(to.id, Fault::Seal, &error.to_string());
        }
        // What the kernel does not take is lost, as packets are.
        if let Ok(octets) = self.socket.try_send_to(&self.sealed, to.address) {
            let stats = &self.context.stats;
            stats.sent.fetch_add(1, Ordering::Relaxed);
            stats.sent_octets.fetch_add(octets as u64, Ordering::Relaxed);
        }
    }

    /// Once a second: echoes for round-trip times, and what the rest of the agent may read.
    fn round(&mut self, now: Instant) {
        self.next_round = now + PERIOD;
        let live =
            |(peer, liveness): (Peer, Liveness)| (liveness != Liveness::Down).then_some(peer);
        let live: Vec<Peer> = self.membership.members().filter_map(live).collect();
        let lanes = self.context.lanes.load_full();
        let (linked, others): (Vec<Peer>, Vec<Peer>) =
            live.into_iter().partition(|peer| lanes.contains_key(&peer.id));
        // Linked members are asked each time, so that their silence means something.
        for peer in linked.into_iter().chain(self.random.choose(others, ECHOES)) {
            self.echo(now, peer);
        }
        self.publish();
        self.look_for_firewall(now);
        self.rotate_keys(now);
        self.refresh_keys(now);
    }

    fn hasten_slow_round(&mut self, now: Instant) {
        let least = self.last_stored.map_or(now, |at| at + STORE_PAUSE);
        self.next_slow_round = self.next_slow_round.min((now + STORE_DELAY).max(least));
    }

    /// Every few seconds, and when somebody came or went: what changes seldom.
    fn slow_round(&mut self, now: Instant) {
        self.next_slow_round = now + SLOW_PERIOD;
        self.last_stored = Some(now);
        let zones = nearest_zones(&mut self.distances, &self.context.shared.view.load());
        self.context.hint(Event::NearestZones(zones));
        self.store_peers();
    }

    fn publish(&mut self) {
        self.publish_known();
        let measured = |(peer, liveness): (Peer, Liveness)| Measured {
            peer,
            liveness,
            rtt: self.distances.rtt(peer.id),
        };
        let members = self.membership.members().map(measured).collect();
        self.context.hint(Event::Members(members));
    }

    /// Whom new links are told of.
    fn publish_known(&mut self) {
        let known: Vec<(Peer, bool)> = self
            .membership
            .members()
            // That a member is down is news of its time, not to be told later: it may be back.
            .filter(|(_, liveness)| *liveness == Liveness::Alive)
            .map(|(peer, _)| (peer, true))
            .collect();
        self.context.known.store(Arc::new(self.random.choose(known, MOST_TOLD)));
    }

    fn store_peers(&mut self) {
        let encode = |(peer, liveness): (Peer, Liveness)| {
            let body = postcard::to_allocvec(&(peer, liveness != Liveness::Down));
            body.ok().map(|body| (peer.id, body))
        };
        let mut peers: Vec<_> = self.membership.members().filter_map(encode).collect();
        let own = self.membership.own();
        peers.extend(encode((own, Liveness::Alive)));
        peers.sort_unstable();
        if peers != self.stored && self.context.hint(Event::Peers(peers.clone())) {
            self.stored = peers;
        }
    }

    /// A clock that is wrong harms whoever reads its times: people should hear of it.
    fn compare_clocks(&mut self, node: NodeId, theirs: Timestamp, rtt: Duration) {
        let own = Timestamp::from_system(SystemTime::now());
        let apart = theirs.since(own).max(own.since(theirs));
        let is_wrong = apart > MAX_AHEAD + rtt;
        if is_wrong == self.wrong_clocks.contains_key(&node) {
            return;
        }
        if is_wrong {
            warn!(%node, ?apart, "the clocks of this node and another differ");
            self.wrong_clocks.insert(node, apart);
        } else {
            self.wrong_clocks.remove(&node);
        }
        let problems = &self.context.shared.problems;
        let Some((node, apart)) = self.wrong_clocks.first_key_value() else {
            return problems.clear(CLOCK);
        };
        let count = self.wrong_clocks.len();
        let seconds = apart.as_secs();
        problems.set(
            CLOCK,
            format!(
                "the clock of this host and those of {count} others differ by more than {} s, e.g. from node {node} \
                 by {seconds} s; let all hosts follow the same time servers",
                MAX_AHEAD.as_secs()
            ),
        );
    }

    /// Streams work and datagrams do not: people should hear of it.
    fn look_for_firewall(&mut self, now: Instant) {
        let lanes = self.context.lanes.load();
        let is_silent = |node: &&NodeId| {
            let heard = self.heard.get(node);
            heard.is_some_and(|at| now.saturating_duration_since(*at) > BLOCKED_AFTER)
        };
        let silent = lanes.keys().filter(is_silent).count();
        if silent == 0 || silent < lanes.len() {
            return self.context.shared.problems.clear(UDP);
        }
        let port = self.context.advertise.port();
        let problem = format!(
            "no datagram came from any of the {silent} agents that are connected by TCP; let UDP port {port} \
             through the firewall, in both directions"
        );
        self.context.shared.problems.set(UDP, problem);
    }
}

/// Keys.
impl Members {
    fn take_keys(&mut self, now: Instant, from: NodeId, keys: &[u8]) {
        let handover: KeyHandover = match postcard::take_from_bytes(keys) {
            Ok((handover, _newer)) => handover,
            Err(error) => return self.context.report(from, Fault::Frame, &error.to_string()),
        };
        self.replay.announce(from, handover.next_stamp);
        // The first one to answer knows how old the keys are; an agent that has just started does not.
        let is_first = !std::mem::replace(&mut self.has_joined, true);
        let is_new = if is_first {
            self.keyring.join(now, &handover.offers)
        } else {
            self.keyring.merge(now, &handover.offers)
        };
        if is_new || is_first {
            self.hand_keys_over(now);
            // What was asked before could not be read there.
            self.membership.ask(now, from);
        }
    }

    fn rotate_keys(&mut self, now: Instant) {
        let own = self.membership.own().id;
        let is_first = self
            .membership
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
        postcard::to_allocvec(&handover).expect("plain data always encodes").into()
    }

    /// Ages grow: what is saved and what the next link is told must not say that a key is younger than it is.
    fn refresh_keys(&mut self, now: Instant) {
        if self.next_refresh <= now {
            self.next_refresh = now + REFRESH_PERIOD;
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

/// Rows say in which zone a node stands, whether there is a link to it or not.
fn nearest_zones(distances: &mut Distances, view: &CatalogView) -> Vec<ZoneName> {
    let zones: BTreeMap<NodeId, &ZoneName> =
        view.nodes().map(|node| (node.id, &node.row.zone)).collect();
    distances.nearest_zones(&view.topology().own_zone, |node| zones.get(&node).copied())
}

fn random_secret() -> Option<Secret> {
    let mut octets = [0; 32];
    rand::fill(&mut octets).ok()?;
    Some(Secret::from_bytes(octets))
}

/// Keys from before the last stop. Without any, the agent makes one: those of agents that meet are united.
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

#[cfg(test)]
mod tests {
    use dunlin_core::catalog::{NodeStatus, NodeView, Topology};
    use dunlin_core::model::{NodeName, NodePhase, NodeRow};

    use super::*;

    #[test]
    fn a_member_without_a_link_counts_for_its_zone() {
        let zone = |name| ZoneName::parse(name).unwrap();
        let node = |n: u8, zone_name| {
            let row = NodeRow {
                name: NodeName::parse(&format!("n{n}")).unwrap(),
                zone: zone(zone_name),
                address: IpAddr::from([127, 0, 0, n]),
                serves_dns: false,
                meta: BTreeMap::new(),
                phase: NodePhase::Active,
            };
            let (id, status) = (NodeId::from_bytes([n; 16]), NodeStatus::Alive);
            NodeView { id, row: Arc::new(row), status }
        };
        let topology = Topology { own_zone: zone("here"), nearest_zones: Vec::new() };
        let mut view = CatalogView::empty(topology, 1);
        let mut distances = Distances::default();
        // None of them has a link: there is nothing here that knows of links.
        for (n, zone_name, millis) in [(1, "here", 1), (2, "far", 80), (3, "near", 9)] {
            let node = node(n, zone_name);
            distances.handle_rtt(node.id, Duration::from_millis(millis));
            view.put_node(node);
        }
        assert_eq!(nearest_zones(&mut distances, &view), [zone("near"), zone("far")]);
    }
}
