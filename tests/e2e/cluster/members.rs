//! Members that join, fail and leave, and the effect on answers.

use std::collections::BTreeSet;

use super::host::Host;
use super::lab::{Lab, everyone, secs, throughout, within};
use super::network::{address, address_v6};

fn ids(hosts: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
    hosts.into_iter().map(|host| format!("web-{host}")).collect()
}

/// Registers one instance of `web` on each host and waits until every agent knows all of them.
fn with_web(lab: &Lab) {
    for host in lab.iter() {
        host.register("web", &format!("web-{}", host.number), 100);
    }
    let all: Vec<_> = lab.iter().collect();
    everyone(&all, "answers all of web", secs(10), |host| host.answered("web") == ids(1..=5));
}

#[test]
fn five_agents_meet_by_one_seed_and_answer_alike() {
    let mut lab = Lab::place();
    let took = lab.boot();
    eprintln!("   {:>8} ms: five agents from nothing to all alive", took.as_millis());
    let all: Vec<_> = lab.iter().collect();
    lab.host(4).register("web", "web-4", 100);
    everyone(&all, "answers the instance", secs(5), |host| host.answered("web") == ids([4]));
    everyone(&all, "answers it in DNS", secs(5), |host| {
        host.dig("web.any.dunlin.internal") == [address(4)].into()
    });
    lab.host(4).deregister("web-4");
    everyone(&all, "does not answer it any more", secs(5), |host| host.answered("web").is_empty());
    everyone(&all, "nor in DNS", secs(5), |host| host.dig("web.any.dunlin.internal").is_empty());
    lab.catalogs_equal(secs(5));
}

#[test]
fn agents_that_speak_ipv6_alone_meet_answer_and_notice_a_death() {
    let mut lab = Lab::place();
    lab.iter().for_each(Host::speak_ipv6);
    lab.boot();
    let all: Vec<_> = lab.iter().collect();
    lab.host(4).register("web", "web-4", 100);
    everyone(&all, "answers it in DNS", secs(5), |host| {
        host.dig_at("::1", &["web.any.dunlin.internal", "AAAA"]) == [address_v6(4)].into()
    });
    lab.host_mut(4).kill();
    everyone(&lab.others(4), "says that n4 is down", secs(10), |host| {
        host.status_of("n4") == "down"
    });
    everyone(&lab.others(4), "does not answer it any more", secs(5), |host| {
        host.dig_at("::1", &["web.any.dunlin.internal", "AAAA"]).is_empty()
    });
}

#[test]
fn a_killed_agent_is_down_and_comes_back() {
    let mut lab = Lab::start();
    with_web(&lab);
    lab.host_mut(3).kill();
    everyone(&lab.others(3), "says that n3 is down", secs(10), |host| {
        host.status_of("n3") == "down"
    });
    everyone(&lab.others(3), "does not answer its instance", secs(10), |host| {
        host.answered("web") == ids([1, 2, 4, 5])
    });
    lab.host_mut(3).boot();
    lab.all_alive(secs(10));
    let all: Vec<_> = lab.iter().collect();
    everyone(&all, "answers it again", secs(5), |host| host.answered("web") == ids(1..=5));
    lab.catalogs_equal(secs(5));
}

#[test]
fn a_host_that_vanishes_from_the_network_is_down_within_seconds() {
    let lab = Lab::start();
    with_web(&lab);
    let silence = ["drop".to_owned(), "out:drop".to_owned()];
    lab.network.set_firewall(3, &silence).unwrap();
    everyone(&lab.others(3), "does not answer its instance", secs(10), |host| {
        host.answered("web") == ids([1, 2, 4, 5])
    });
    lab.network.heal().unwrap();
    lab.all_alive(secs(15));
    lab.catalogs_equal(secs(5));
}

#[test]
fn an_agent_that_is_stopped_has_left_at_once() {
    let mut lab = Lab::start();
    with_web(&lab);
    lab.host(2).process_signal("-TERM");
    everyone(&lab.others(2), "does not answer its instance", secs(2), |host| {
        host.answered("web") == ids([1, 3, 4, 5])
    });
    everyone(&lab.others(2), "says that n2 left", secs(2), |host| host.status_of("n2") == "left");
    let others: Vec<_> = lab.others(2).iter().map(|host| host.number).collect();
    lab.host_mut(2).wait_end();
    throughout(secs(5), || {
        for number in &others {
            assert_eq!(lab.host(*number).status_of("n2"), "left", "as n{number} sees it");
        }
    });
    lab.host_mut(2).boot();
    lab.all_alive(secs(10));
    let all: Vec<_> = lab.iter().collect();
    everyone(&all, "answers its instance again", secs(5), |host| {
        host.answered("web") == ids(1..=5)
    });
    lab.catalogs_equal(secs(5));
}

#[test]
fn an_agent_that_stood_still_catches_up_by_itself() {
    let lab = Lab::start();
    with_web(&lab);
    let stopped = std::time::Instant::now();
    lab.host(5).process_signal("-STOP");
    for change in 0..500 {
        let host = lab.host(1 + change % 4);
        host.register("busy", &format!("busy-{}-{}", host.number, change % 100), change);
    }
    eprintln!("   {:>8} ms: 500 changes", stopped.elapsed().as_millis());
    everyone(&lab.others(5), "says that n5 is down", secs(20), |host| {
        host.status_of("n5") == "down"
    });
    throughout(secs(20).saturating_sub(stopped.elapsed()), || {});
    lab.host(5).process_signal("-CONT");
    let took =
        within(secs(5), "n5 knows all changes", || lab.host(5).catalog() == lab.host(1).catalog());
    lab.all_alive(secs(10).saturating_sub(took));
    lab.catalogs_equal(secs(5));
}
