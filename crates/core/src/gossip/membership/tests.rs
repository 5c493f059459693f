//! Members on a clock that tests move, with a network that loses the packets which a test selects.
#![allow(
    clippy::disallowed_methods,
    reason = "tests take one instant to start from; all others follow by addition"
)]

use std::collections::BTreeSet;

use super::*;

fn peer(n: u8) -> Peer {
    Peer { id: NodeId::from_bytes([n; 16]), generation: 1, address: ([127, 0, 0, n], 1).into() }
}

struct Net {
    now: Instant,
    members: BTreeMap<u8, Membership>,
    /// Members that neither receive nor send, and whose clocks stand still.
    stopped: BTreeSet<u8>,
    /// Members that neither receive nor send, and whose clocks run.
    cut_off: BTreeSet<u8>,
    told: Vec<(u8, MembershipOutput)>,
}

impl Net {
    fn new(count: u8) -> Self {
        let now = Instant::now();
        let member = |n| (n, Membership::new(peer(n), MembershipSettings::default(), n.into()));
        let members = (1..=count).map(member).collect();
        let mut net = Self {
            now,
            members,
            stopped: BTreeSet::new(),
            cut_off: BTreeSet::new(),
            told: Vec::new(),
        };
        for n in 2..=count {
            net.member(n).meet(now, peer(1), 0);
            net.member(1).meet(now, peer(n), 0);
        }
        net.pass(Duration::from_secs(5));
        net
    }

    fn member(&mut self, n: u8) -> &mut Membership {
        self.members.get_mut(&n).unwrap()
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(10);
            self.step();
        }
    }

    fn step(&mut self) {
        let now = self.now;
        for (_, member) in self.members.iter_mut().filter(|(n, _)| !self.stopped.contains(n)) {
            member.handle_deadline(now);
        }
        loop {
            let mut packets = Vec::new();
            for (n, member) in &mut self.members {
                while let Some(output) = member.poll_output() {
                    match output {
                        MembershipOutput::Send { to, packet } => {
                            packets.push((*n, to.id.as_bytes()[0], Some(packet)));
                        }
                        MembershipOutput::Ping { to } => {
                            packets.push((*n, to.id.as_bytes()[0], None));
                        }
                        other @ (MembershipOutput::Up(_)
                        | MembershipOutput::Down(_)
                        | MembershipOutput::Renewed(_)) => self.told.push((*n, other)),
                    }
                }
            }
            if packets.is_empty() {
                return;
            }
            for (from, to, packet) in packets {
                let is_lost = |n| self.stopped.contains(n) || self.cut_off.contains(n);
                if is_lost(&from) || is_lost(&to) {
                    continue;
                }
                let id = NodeId::from_bytes([from; 16]);
                match packet {
                    Some(packet) => self.member(to).handle_packet(now, id, &packet).unwrap(),
                    None => {
                        let back = NodeId::from_bytes([to; 16]);
                        self.member(from).handle_heard(now, back);
                    }
                }
            }
        }
    }

    /// Delivers the packets that a member has to send, and does nothing else.
    fn deliver(&mut self, from: u8) {
        let now = self.now;
        while let Some(output) = self.member(from).poll_output() {
            if let MembershipOutput::Send { to, packet } = output {
                let to = self.member(to.id.as_bytes()[0]);
                to.handle_packet(now, peer(from).id, &packet).unwrap();
            }
        }
    }

    fn liveness(&self, of: u8, seen_by: u8) -> Option<Liveness> {
        let mut members = self.members[&seen_by].members();
        members.find(|(p, _)| p.id == peer(of).id).map(|(_, liveness)| liveness)
    }

    fn all_see(&self, of: u8, liveness: Liveness) -> bool {
        let others = self.members.keys().filter(|n| **n != of && !self.stopped.contains(n));
        others.into_iter().all(|n| self.liveness(of, *n) == Some(liveness))
    }
}

#[test]
fn members_that_meet_one_find_all() {
    let net = Net::new(8);
    for n in 1..=8 {
        assert!(net.all_see(n, Liveness::Alive), "{n}");
    }
}

#[test]
fn a_silent_member_is_suspected_and_then_down_everywhere() {
    let mut net = Net::new(8);
    net.stopped.insert(5);
    net.pass(Duration::from_secs(8));
    assert!(net.all_see(5, Liveness::Down));
    assert!(
        net.told
            .iter()
            .any(|(_, told)| matches!(told, MembershipOutput::Down(p) if p.id == peer(5).id))
    );
}

#[test]
fn a_suspicion_that_is_refuted_costs_nobody_a_new_identity() {
    let mut net = Net::new(6);
    net.cut_off.insert(2);
    let deadline = net.now + Duration::from_secs(8);
    while !net.members.keys().any(|n| net.liveness(2, *n) == Some(Liveness::Suspect)) {
        assert!(net.now < deadline, "nobody suspects it");
        net.pass(Duration::from_millis(10));
    }
    net.cut_off.clear();
    net.pass(Duration::from_secs(8));
    assert!((1..=6).all(|n| net.all_see(n, Liveness::Alive)));
    assert!(
        net.told.iter().all(|(_, told)| !matches!(told, MembershipOutput::Renewed(_))),
        "{:?}",
        net.told
    );
}

#[test]
fn a_member_that_slept_comes_back_by_itself_and_condemns_nobody() {
    let mut net = Net::new(6);
    net.stopped.insert(2);
    net.pass(Duration::from_secs(20));
    assert!(net.all_see(2, Liveness::Down));
    net.stopped.clear();
    net.told.clear();
    net.pass(Duration::from_secs(10));
    assert!(net.all_see(2, Liveness::Alive));
    for n in [1, 3, 4, 5, 6] {
        assert!(net.all_see(n, Liveness::Alive), "{n}");
    }
    let condemned =
        |(n, told): &(u8, MembershipOutput)| *n == 2 && matches!(told, MembershipOutput::Down(_));
    assert!(!net.told.iter().any(condemned));
}

#[test]
fn a_member_that_was_cut_off_suspects_nobody_for_ever() {
    for millis in (500..8000).step_by(250) {
        let mut net = Net::new(5);
        net.cut_off.insert(2);
        net.pass(Duration::from_millis(millis));
        net.cut_off.clear();
        net.pass(Duration::from_secs(15));
        for n in 1..=5 {
            assert!(net.all_see(n, Liveness::Alive), "{n}, when 2 was cut off for {millis} ms");
        }
    }
}

#[test]
fn who_is_held_for_down_by_one_agent_and_answers_others_is_down_for_that_one_alone() {
    let mut net = Net::new(4);
    let now = net.now;
    net.told.clear();
    // Member 3 is silent for a moment, in which 2 has reason to ping it.
    net.cut_off.insert(3);
    net.member(2).doubt(now, peer(3).id);
    while net.liveness(3, 2) != Some(Liveness::Down) {
        net.now += Duration::from_millis(10);
        let now = net.now;
        net.member(2).handle_deadline(now);
    }
    net.cut_off.clear();
    net.pass(Duration::from_secs(5));
    assert!(net.all_see(3, Liveness::Alive));
    let down = MembershipOutput::Down(peer(3));
    let condemned: Vec<u8> =
        net.told.iter().filter(|(_, told)| *told == down).map(|(n, _)| *n).collect();
    assert_eq!(condemned, [2]);
}

/// Member 3 has died. Its host refused a connection of 1; 2 heard 3 a moment ago, and will hear the news from 1.
fn where_one_doubts_the_dead() -> Net {
    let mut net = Net::new(3);
    net.stopped.insert(3);
    let now = net.now;
    net.member(1).doubt(now, peer(3).id);
    net
}

#[test]
fn who_is_rumoured_to_be_down_and_answers_no_ping_is_down() {
    let mut net = where_one_doubts_the_dead();
    net.pass(Duration::from_millis(450));
    assert_eq!(net.liveness(3, 2), Some(Liveness::Suspect));
    net.pass(Duration::from_millis(450));
    assert!(net.all_see(3, Liveness::Down));
    assert!(net.told.contains(&(2, MembershipOutput::Down(peer(3)))));
}

#[test]
fn the_last_word_of_a_dead_member_does_not_put_off_its_end() {
    let mut net = where_one_doubts_the_dead();
    net.pass(Duration::from_millis(450));
    // Packets that it sent before it died arrive only now.
    let now = net.now;
    net.member(2).handle_heard(now, peer(3).id);
    net.pass(Duration::from_millis(900));
    assert_eq!(net.liveness(3, 2), Some(Liveness::Down));
}

#[test]
fn who_is_refused_by_its_host_and_rumoured_to_be_down_is_down_at_once() {
    let mut net = where_one_doubts_the_dead();
    net.pass(Duration::from_millis(250));
    let now = net.now;
    net.member(2).doubt(now, peer(3).id);
    net.pass(Duration::from_millis(100));
    assert!(net.all_see(3, Liveness::Down), "1 has said so, and 2 was refused");
}

/// Each of these members considers all others down. Then the network works again.
fn strangers(count: u8) -> Net {
    let mut net = Net::new(count);
    net.cut_off.extend(1..=count);
    net.pass(Duration::from_secs(30));
    for n in 1..=count {
        assert!(net.all_see(n, Liveness::Down), "{n}");
    }
    net.cut_off.clear();
    net
}

#[test]
fn members_that_hold_each_other_for_down_find_each_other_without_a_seed() {
    for count in 2..=5 {
        let mut net = strangers(count);
        // The one that the others had joined never comes back.
        net.stopped.extend((count > 2).then_some(1));
        net.pass(Duration::from_secs(30));
        for n in (1..=count).filter(|n| count == 2 || *n > 1) {
            assert!(net.all_see(n, Liveness::Alive), "{n} of {count}");
        }
    }
}

#[test]
fn two_that_renew_at_the_same_time_and_hear_nothing_of_it_find_each_other_again() {
    let mut net = Net::new(3);
    let now = net.now;
    // 3 holds both for down, tells both at the same moment, and dies.
    net.member(3).introduce(now, [(peer(1), false), (peer(2), false)]);
    for n in [1, 2] {
        net.member(n).ask(now, peer(3).id);
        net.deliver(n);
    }
    net.deliver(3);
    net.stopped.insert(3);
    for n in [1, 2] {
        assert_eq!(net.member(n).own().generation, 2);
        // The packets by which they report it are lost.
        while net.member(n).poll_output().is_some() {}
    }
    net.pass(Duration::from_secs(30));
    for (of, seen_by) in [(1, 2), (2, 1)] {
        let new = net.members[&of].own();
        let seen = net.members[&seen_by].peer(new.id);
        assert_eq!(seen, Some((new, Liveness::Alive)), "{of} seen by {seen_by}");
    }
}

#[test]
fn an_agent_that_has_left_calls_nobody() {
    let mut net = Net::new(2);
    net.stopped.insert(2);
    net.pass(Duration::from_secs(10));
    assert!(net.member(1).next_deadline().is_some());
    let now = net.now;
    net.member(1).leave(now);
    net.step();
    assert_eq!(net.member(1).call_at, None);
}

#[test]
fn whose_host_refuses_and_who_answers_no_ping_is_down_within_half_a_second() {
    let mut net = Net::new(3);
    net.stopped.insert(3);
    let now = net.now;
    for n in [1, 2] {
        net.member(n).doubt(now, peer(3).id);
    }
    net.pass(Duration::from_millis(500));
    assert!(net.all_see(3, Liveness::Down));
}

#[test]
fn who_answers_an_echo_is_not_doubted_any_more() {
    let mut net = Net::new(3);
    let now = net.now;
    net.member(1).doubt(now, peer(3).id);
    net.pass(Duration::from_secs(3));
    assert!(net.all_see(3, Liveness::Alive));
}

#[test]
fn who_leaves_is_down_at_once_and_returns_with_its_next_generation() {
    let mut net = Net::new(4);
    let now = net.now;
    net.member(4).leave(now);
    net.pass(Duration::from_millis(500));
    assert!(net.all_see(4, Liveness::Down));
    let again = Peer { generation: 2, ..peer(4) };
    let reborn = Membership::new(again, MembershipSettings::default(), 44);
    net.members.insert(4, reborn);
    let now = net.now;
    net.member(4).meet(now, peer(1), 0);
    net.member(1).meet(now, again, 1);
    net.pass(Duration::from_secs(5));
    assert!(net.all_see(4, Liveness::Alive));
}

#[test]
fn a_generation_below_a_former_one_is_outdone() {
    let mut net = Net::new(2);
    let now = net.now;
    net.member(1).meet(now, peer(2), 500);
    assert_eq!(net.member(1).own().generation, 501);
}

#[test]
fn members_introduced_as_down_are_told() {
    let mut net = Net::new(1);
    let now = net.now;
    net.member(1).introduce(now, [(peer(7), false)]);
    net.step();
    assert!(net.told.contains(&(1, MembershipOutput::Down(peer(7)))));
}

proptest::proptest! {
    #[test]
    fn random_packets_never_panic(packet: Vec<u8>) {
        let mut member = Membership::new(peer(1), MembershipSettings::default(), 1);
        let now = Instant::now();
        let _ = member.handle_packet(now, peer(2).id, &packet);
    }
}
