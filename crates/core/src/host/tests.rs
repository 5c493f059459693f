//! What a host decides, told by what it is given and what it wants done then.
#![allow(clippy::disallowed_methods, reason = "a virtual clock has to begin somewhere")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks for one output among others")]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::*;
use crate::gossip::Liveness;
use crate::model::{
    CheckId, CheckKind, CheckSpec, Instance, InstanceFields, InstanceId, Mode, NodeName, NodePhase,
    ProviderId, ProviderKind, Registration, Timestamp, ZoneName,
};
use crate::replica::RowKey;

/// A host on a clock that the test sets.
struct Rig {
    host: Host,
    moment: Moment,
    tickets: u64,
}

fn node_row(name: &str) -> NodeRow {
    NodeRow {
        name: NodeName::parse(name).unwrap(),
        zone: ZoneName::parse("z1").unwrap(),
        address: [127, 0, 0, 1].into(),
        serves_dns: false,
        meta: BTreeMap::new(),
        phase: NodePhase::Active,
    }
}

fn node_id(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn peer(number: u8) -> Peer {
    let address = SocketAddr::from(([127, 0, 0, number], 5370));
    Peer { id: node_id(number), generation: 7, address }
}

fn id(text: &str) -> InstanceId {
    InstanceId::parse(text).unwrap()
}

fn registration(text: &str, checks: Vec<CheckSpec>) -> Registration {
    let fields = InstanceFields {
        id: id(text),
        service: ServiceName::parse("web").unwrap(),
        address: [127, 0, 0, 1].into(),
        port: 80,
        weight: 100,
        tags: Vec::new(),
        meta: BTreeMap::new(),
        provider: ProviderId::api(),
    };
    Registration::new(Instance::new(fields).unwrap(), checks).unwrap()
}

fn register(text: &str) -> Request {
    Request::Register(Box::new(registration(text, Vec::new())))
}

fn tcp() -> CheckSpec {
    CheckSpec::with_defaults(CheckId::parse("tcp").unwrap(), CheckKind::Tcp { target: None })
}

impl Rig {
    /// The host of node 1, which has stored what it says of itself.
    fn new() -> Self {
        let mut rig = Self::restored(HostSettings::new(node_row("n1")), Stored::default());
        rig.host.start(rig.moment);
        rig.store();
        rig
    }

    fn restored(settings: HostSettings, stored: Stored) -> Self {
        let moment = Moment { now: Instant::now(), wall: Timestamp::from_millis(1_000_000) };
        let host = Host::restore(moment, settings, node_id(1), stored);
        Self { host, moment, tickets: 0 }
    }

    /// Joined with others, of which it is told that these are there.
    fn joined(members: &[u8]) -> Self {
        let mut rig = Self::new();
        rig.host.join(rig.moment, []);
        for number in members {
            let event = PeerEvent::Member { peer: peer(*number), is_live: true };
            rig.host.handle_peer(rig.moment, event);
        }
        rig.host.flush(rig.moment);
        rig.outputs();
        rig
    }

    fn ask(&mut self, request: Request) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.host.handle_request(self.moment, ticket, request, None);
        self.host.flush(self.moment);
        ticket
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.host.poll_output()).collect()
    }

    /// Says of each batch that the disk has it, until there is none. Returns all outputs.
    fn store(&mut self) -> Vec<Output> {
        let mut all = Vec::new();
        loop {
            let outputs = self.outputs();
            let is_storing = outputs.iter().any(|output| matches!(output, Output::Store(_)));
            all.extend(outputs);
            if !is_storing {
                return all;
            }
            self.host.handle_stored(self.moment, Ok(()));
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.moment.now + time;
        while let Some(at) = self.host.next_deadline().filter(|at| *at <= until) {
            self.moment.now = at.max(self.moment.now);
            self.host.handle_deadline(self.moment);
        }
        self.moment.now = until;
    }

    fn hello(&self, number: u8, generation: u64) -> Box<Hello> {
        let mut other = Host::restore(
            self.moment,
            HostSettings::new(node_row(&format!("n{number}"))),
            node_id(number),
            Stored::default(),
        );
        other.join(self.moment, []);
        let own = Peer { generation, ..peer(number) };
        Box::new(other.hello(own, Some(node_id(1))).unwrap())
    }

    fn link(&mut self, number: u8, generation: u64, is_dialed: bool, link: u64) {
        let (hello, link) = (self.hello(number, generation), LinkId(link));
        self.host.handle_peer(self.moment, PeerEvent::Linked { hello, is_dialed, link });
    }
}

/// Outputs in few words, in order.
fn told(outputs: &[Output]) -> Vec<String> {
    let one = |output: &Output| match output {
        Output::Answer { result, .. } => format!("answer {result:?}"),
        Output::Peers(PeerOutput::CloseLink { link, .. }) => format!("close {}", link.0),
        Output::Peers(PeerOutput::SendUrgent { .. }) => "urgent".to_owned(),
        Output::Peers(PeerOutput::Dial(peer)) => format!("dial {}", peer.address),
        Output::Tell(Event::DiskRefuses { .. }) => "refused".to_owned(),
        other => format!("{other:?}").chars().take_while(|c| c.is_alphanumeric()).collect(),
    };
    outputs.iter().map(one).collect()
}

/// Where an output stands among others.
fn place(outputs: &[Output], which: &str) -> Option<usize> {
    told(outputs).iter().position(|output| output.starts_with(which))
}

#[test]
fn a_registration_is_stored_then_shown_then_acknowledged() {
    let mut rig = Rig::new();
    rig.ask(register("a"));
    assert_eq!(told(&rig.outputs()), ["Store"]);
    rig.host.handle_stored(rig.moment, Ok(()));
    let outputs = rig.outputs();
    let [shown, published, answered] =
        ["Publish", "PublishRegistry", "answer Ok(Created)"].map(|which| place(&outputs, which));
    assert!(shown.is_some() && shown < published && published < answered, "{:?}", told(&outputs));
}

#[test]
fn requests_that_come_while_a_batch_is_on_its_way_become_the_next_one_together() {
    let mut rig = Rig::new();
    rig.ask(register("a"));
    rig.ask(register("b"));
    rig.ask(register("c"));
    assert_eq!(told(&rig.outputs()), ["Store"]);
    rig.host.handle_stored(rig.moment, Ok(()));
    let outputs = rig.outputs();
    let Some(Output::Store(batch)) = outputs.last() else { panic!("{:?}", told(&outputs)) };
    assert_eq!(batch.deltas.len(), 1, "one commit");
    assert_eq!(batch.deltas[0].rows.len(), 2);
}

#[test]
fn requests_that_come_together_become_one_batch() {
    let mut rig = Rig::new();
    for (number, name) in (1..).zip(["a", "b", "c"]) {
        rig.host.handle_request(rig.moment, Ticket(number), register(name), None);
    }
    assert_eq!(told(&rig.outputs()), [""; 0]);
    rig.host.flush(rig.moment);
    let outputs = rig.outputs();
    let [Output::Store(batch)] = &outputs[..] else { panic!("{:?}", told(&outputs)) };
    assert_eq!(batch.deltas[0].rows.len(), 3);
}

#[test]
fn what_the_disk_refuses_is_put_back_and_told_to_all_who_wait() {
    let mut rig = Rig::new();
    rig.ask(register("a"));
    rig.outputs();
    rig.host.handle_stored(rig.moment, Err("full".to_owned()));
    let outputs = told(&rig.outputs());
    assert_eq!(outputs, ["refused", "answer Err(Storage(\"full\"))"]);
    assert!(rig.host.registry().is_empty());
    rig.ask(register("a"));
    rig.outputs();
    rig.host.handle_stored(rig.moment, Err("full".to_owned()));
    assert_eq!(told(&rig.outputs()), ["answer Err(Storage(\"full\"))"], "people are told once");
    rig.ask(register("a"));
    assert!(place(&rig.store(), "answer Ok(Created)").is_some(), "nothing of it was left behind");
}

#[test]
fn what_checks_observe_is_shown_before_it_is_stored_and_outlives_a_refusal() {
    let mut rig = Rig::new();
    rig.ask(Request::Register(Box::new(registration("a", vec![tcp()]))));
    rig.store();
    rig.host.handle_deadline(rig.moment);
    let run = rig.outputs().into_iter().find_map(|output| match output {
        Output::RunCheck { key, run, .. } => Some((key, run)),
        _ => None,
    });
    let (key, run) = run.unwrap();
    let outcome = CheckOutcome { status: CheckStatus::Passing, output: "connected".to_owned() };
    rig.host.handle_check(rig.moment, &key, run, outcome);
    let outputs = rig.outputs();
    assert!(place(&outputs, "Publish") < place(&outputs, "Store"), "{:?}", told(&outputs));
    assert_eq!(rig.host.view().services().count(), 1);
    rig.host.handle_stored(rig.moment, Err("full".to_owned()));
    rig.outputs();
    rig.pass(RETRY_INTERVAL);
    let outputs = rig.outputs();
    let batch = outputs.iter().find_map(|output| match output {
        Output::Store(batch) => Some(batch),
        _ => None,
    });
    let row = &batch.unwrap().deltas[0].rows[0];
    assert!(matches!(row.key, RowKey::Check(..)), "it is stored with the next batch: {row:?}");
}

#[test]
fn an_idle_host_has_nothing_due_right_now() {
    let mut rig = Rig::joined(&[2, 3]);
    for request in
        [register("a"), Request::Deregister(id("a")), Request::SetMode(id("b"), Mode::Draining)]
    {
        rig.ask(request);
        rig.store();
        rig.host.handle_deadline(rig.moment);
        rig.store();
        let due = rig.host.next_deadline();
        assert!(due.is_none_or(|at| at > rig.moment.now), "it would spin");
    }
}

#[test]
fn of_two_links_both_sides_keep_the_one_that_the_smaller_id_opened() {
    // This host has the smaller id of the two.
    let mut rig = Rig::joined(&[2]);
    rig.link(2, 7, true, 10);
    rig.outputs();
    rig.link(2, 7, false, 11);
    rig.host.flush(rig.moment);
    assert!(place(&rig.outputs(), "close 11").is_some(), "the one that the other side opened");
    assert_eq!(rig.host.link(node_id(2)), Some(LinkId(10)));
    rig.link(2, 7, true, 12);
    rig.host.flush(rig.moment);
    assert!(place(&rig.outputs(), "close 10").is_some(), "of two by one side the newer stays");
    assert_eq!(rig.host.link(node_id(2)), Some(LinkId(12)));
}

#[test]
fn a_link_of_a_former_life_gives_way_whichever_side_opened_it() {
    let mut rig = Rig::joined(&[2]);
    rig.link(2, 7, true, 10);
    rig.link(2, 8, false, 11);
    rig.host.flush(rig.moment);
    assert!(place(&rig.outputs(), "close 10").is_some());
    assert_eq!(rig.host.link(node_id(2)), Some(LinkId(11)));
}

#[test]
fn a_link_that_takes_another_ones_place_makes_the_host_dial_nobody() {
    let mut rig = Rig::joined(&[2]);
    rig.link(2, 7, true, 10);
    rig.outputs();
    rig.link(2, 7, true, 11);
    rig.host.handle_peer(rig.moment, PeerEvent::LinkClosed { node: node_id(2), link: LinkId(10) });
    rig.host.flush(rig.moment);
    rig.pass(Duration::from_secs(1));
    let outputs = rig.outputs();
    assert!(place(&outputs, "dial").is_none(), "{:?}", told(&outputs));
    assert_eq!(rig.host.link(node_id(2)), Some(LinkId(11)));
}

#[test]
fn a_host_without_room_for_links_says_hello_neither_as_dialler_nor_as_acceptor() {
    let mut settings = HostSettings::new(node_row("n1"));
    settings.exchange.links = 1;
    let mut rig = Rig::restored(settings, Stored::default());
    rig.host.join(rig.moment, []);
    assert!(rig.host.hello(peer(1), Some(node_id(3))).is_some());
    rig.link(2, 7, true, 10);
    assert!(rig.host.hello(peer(1), Some(node_id(3))).is_none());
    assert!(rig.host.hello(peer(1), None).is_none());
}

#[test]
fn frames_of_a_link_that_was_replaced_are_passed_over() {
    let mut rig = Rig::joined(&[2]);
    rig.link(2, 7, true, 10);
    rig.link(2, 7, true, 11);
    assert!(!rig.host.has_link(node_id(2), LinkId(10)));
    assert!(!rig.host.handle_frame(rig.moment, node_id(2), LinkId(10), Frame::Prune));
}

#[test]
fn bad_news_goes_out_before_it_is_shown_here() {
    let mut rig = Rig::joined(&[2]);
    rig.ask(register("a"));
    rig.store();
    rig.ask(Request::Deregister(id("a")));
    let outputs = rig.store();
    let (sent, shown) = (place(&outputs, "urgent"), place(&outputs, "Publish"));
    assert!(sent.is_some() && sent < shown, "{:?}", told(&outputs));
}

#[test]
fn a_commit_has_the_links_filled_with_it_at_once() {
    let mut rig = Rig::joined(&[2]);
    rig.link(2, 7, true, 10);
    rig.host.flush(rig.moment);
    rig.store();
    rig.ask(register("a"));
    let outputs = rig.store();
    let is_ready = |output: &Output| matches!(output, Output::Peers(PeerOutput::Ready(_)));
    assert!(outputs.iter().any(is_ready), "{:?}", told(&outputs));
}

#[test]
fn a_node_that_is_gone_for_longer_than_it_is_remembered_is_forgotten_also_on_disk() {
    let (own, other) = (node_row("n1"), node_row("n2"));
    let mut replica = Replica::new(node_id(2));
    let change = crate::replica::Change {
        key: RowKey::Node,
        state: crate::replica::RowState::Present(other.into()),
    };
    let delta = replica.prepare([change]).unwrap();
    replica.commit(&delta);
    let history = StoredHistory {
        origin: node_id(2),
        extent: replica.extent(node_id(2)),
        floor: Version::ZERO,
        rows: replica.rows(node_id(2)).collect(),
    };
    let stored = Stored { histories: vec![history], ..Stored::default() };
    let reap_after = Duration::from_secs(60);
    let settings = HostSettings { reap_after, ..HostSettings::new(own) };
    let mut rig = Rig::restored(settings, stored);
    rig.host.start(rig.moment);
    rig.host.join(rig.moment, []);
    rig.store();
    rig.pass(Duration::from_secs(300));
    assert!(rig.host.replica().knows(node_id(2)), "a host that is alone cannot say who is gone");
    rig.store();
    let member = PeerEvent::Member { peer: peer(3), is_live: true };
    rig.host.handle_peer(rig.moment, member);
    rig.pass(Duration::from_secs(90));
    let outputs = rig.store();
    let forgets = |output: &Output| matches!(output, Output::Tell(Event::NodeForgotten { id }) if *id == node_id(2));
    assert!(outputs.iter().any(forgets), "{:?}", told(&outputs));
    let stores =
        |output: &Output| matches!(output, Output::Store(batch) if !batch.forget.is_empty());
    assert!(outputs.iter().any(stores));
    assert!(!rig.host.replica().knows(node_id(2)));
}

#[test]
fn a_stop_answers_what_waits_stores_the_rest_and_says_that_the_node_leaves() {
    let mut settings = HostSettings::new(node_row("n1"));
    settings.leaves_on_stop = true;
    let mut rig = Rig::restored(settings, Stored::default());
    rig.host.start(rig.moment);
    rig.store();
    rig.ask(register("a"));
    rig.ask(register("b"));
    rig.outputs();
    rig.host.handle_stop(rig.moment);
    assert!(place(&rig.outputs(), "answer Err(Stopping)").is_some(), "b had not begun");
    rig.host.handle_stored(rig.moment, Ok(()));
    let outputs = rig.store();
    assert!(place(&outputs, "answer Ok(Created)").is_some(), "a was on its way");
    assert!(place(&outputs, "Stopped").is_some(), "{:?}", told(&outputs));
    let row = rig.host.replica().row(node_id(1), &RowKey::Node).unwrap();
    assert_eq!(row.node().unwrap().phase, NodePhase::Left);
    rig.ask(register("c"));
    assert!(place(&rig.outputs(), "answer Err(Stopping)").is_some());
}

#[test]
fn instances_of_run_are_shown_as_draining_when_the_host_stops_and_stored_as_they_were() {
    let mut rig = Rig::new();
    let provider = ProviderId::new(ProviderKind::Run, "job").unwrap();
    let instances = vec![registration("a", Vec::new())];
    rig.ask(Request::PutProvider { provider, instances, ttl: None });
    rig.store();
    rig.host.handle_stop(rig.moment);
    let outputs = rig.outputs();
    assert!(place(&outputs, "Publish") < place(&outputs, "Stopped"), "{:?}", told(&outputs));
    let service = rig.host.view().services().next().unwrap();
    assert_eq!(service.endpoints.iter().next().unwrap().instance.profile.mode, Mode::Draining);
    let row = rig.host.replica().row(node_id(1), &RowKey::Instance(id("a"))).unwrap();
    assert_eq!(row.instance().unwrap().profile.mode, Mode::Active);
}

#[test]
fn tombstones_that_could_not_be_purged_are_purged_with_a_later_batch() {
    let mut settings = HostSettings::new(node_row("n1"));
    (settings.keep_tombstones, settings.purge_interval) =
        (Duration::from_secs(30), Duration::from_secs(10));
    let mut rig = Rig::restored(settings, Stored::default());
    rig.host.start(rig.moment);
    rig.store();
    for request in [register("a"), Request::Deregister(id("a"))] {
        rig.ask(request);
        rig.store();
    }
    rig.pass(Duration::from_secs(41));
    assert!(place(&rig.outputs(), "Store").is_some(), "a purge alone is a batch");
    rig.host.handle_stored(rig.moment, Err("full".to_owned()));
    rig.outputs();
    rig.pass(RETRY_INTERVAL);
    rig.store();
    assert!(rig.host.replica().floor(node_id(1)) > Version::ZERO);
    let key = RowKey::Instance(id("a"));
    assert_eq!(rig.host.replica().entry(node_id(1), &key), None);
}

/// Two machines that hand each other their packets at once.
fn exchange(one: &mut Members, other: &mut Members, moment: Moment) {
    for _ in 0..4 {
        hand_over(one, other, moment);
        hand_over(other, one, moment);
    }
}

fn hand_over(from: &mut Members, to: &mut Members, moment: Moment) {
    let (sender, receiver) = (from.membership().own().id, to.membership().own().id);
    while let Some(output) = from.poll_output() {
        if let MembersOutput::Send { to: target, packet, .. } = output {
            assert_ne!(target.id, sender, "no host sends itself packets");
            if target.id == receiver {
                to.handle_packet(moment, sender, &packet);
            }
        }
    }
}

#[test]
fn a_former_life_of_the_own_node_is_no_member() {
    let mut moment = Rig::new().moment;
    let members = |number: u8, generation: u64, known: &[(Peer, bool)]| {
        let own = Peer { generation, ..peer(number) };
        Members::new(moment.now, own, MembersSettings::default(), known.iter().copied())
    };
    let former = Peer { generation: 5, ..peer(1) };
    let mut one = members(1, 9, &[]);
    let mut other = members(2, 7, &[(former, true)]);
    other.handle_introduced(moment.now, vec![(former, false)]);
    other.handle_met(moment.now, Peer { generation: 9, ..peer(1) }, 7);
    one.handle_met(moment.now, peer(2), 9);
    for _ in 0..60 {
        exchange(&mut one, &mut other, moment);
        moment.now += Duration::from_secs(1);
        one.handle_deadline(moment);
        other.handle_deadline(moment);
    }
    let own: Vec<_> =
        one.membership().members().filter(|(peer, _)| peer.id == node_id(1)).collect();
    assert_eq!(own, []);
    let seen: Vec<_> = one.membership().members().collect();
    assert_eq!(seen, [(peer(2), Liveness::Alive)]);
}
