//! Networks that split and are joined again.

use std::process::Stdio;
use std::time::Instant;

use serde_json::json;

use super::lab::{Lab, everyone, secs, throughout};
use super::network::address;
use crate::agent::Process;

const NEAR: [usize; 2] = [1, 2];
const FAR: [usize; 3] = [3, 4, 5];

fn split(lab: &Lab) {
    for host in NEAR {
        lab.network.deafen(host, &FAR).unwrap();
    }
    for host in FAR {
        lab.network.deafen(host, &NEAR).unwrap();
    }
}

/// A server on the first host that three instances of `held`, on the far hosts, point to.
fn register_held(lab: &Lab) -> Process {
    let mut server = lab.host(1).command("python3");
    server.args(["-m", "http.server", "8000", "--bind", &address(1)]);
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Process::spawn(&mut server);
    for host in FAR {
        let body = json!({"service": "held", "port": 8000, "address": address(1)});
        lab.host(host).put(&format!("/api/instances/held-{host}"), &body).unwrap();
    }
    server
}

#[test]
fn both_sides_of_a_split_go_on_and_agree_when_it_heals() {
    let lab = Lab::start();
    let _server = register_held(&lab);
    for host in lab.iter() {
        host.register("web", &format!("web-{}", host.number), 100);
    }
    let all: Vec<_> = lab.iter().collect();
    everyone(&all, "answers everything", secs(5), |host| {
        host.answered("web").len() == 5 && host.answered("held").len() == 3
    });
    split(&lab);
    let (near, far) = (NEAR.map(|host| lab.host(host)), FAR.map(|host| lab.host(host)));
    everyone(&near, "sees the far side down", secs(20), |host| {
        FAR.iter().all(|other| host.status_of(&format!("n{other}")) == "down")
    });
    everyone(&far, "sees the near side down", secs(20), |host| {
        NEAR.iter().all(|other| host.status_of(&format!("n{other}")) == "down")
    });
    everyone(&near, "drops what does not answer", secs(20), |host| {
        host.answered("web") == ["web-1".to_owned(), "web-2".to_owned()].into()
    });
    everyone(&far, "answers its own side", secs(5), |host| host.answered("web").len() == 3);
    throughout(secs(5), || {
        for host in near {
            let held = host.get("/api/services/held").unwrap();
            assert_eq!(held["guarded"], true, "{}: {held}", host.name());
            assert_eq!(host.answered("held").len(), 3, "they answer the guard's probes");
        }
    });
    change_both_sides(&lab);
    let healed = Instant::now();
    lab.network.heal().unwrap();
    lab.all_alive(secs(30));
    lab.catalogs_equal(secs(30).saturating_sub(healed.elapsed()));
    everyone(&all, "answers what is true now", secs(5), |host| {
        host.answered("new").len() == 2 && host.answered("web").len() == 4
    });
}

/// Registers a new instance on each side, and deregisters one.
fn change_both_sides(lab: &Lab) {
    let (near, far) = (NEAR.map(|host| lab.host(host)), FAR.map(|host| lab.host(host)));
    lab.host(1).register("new", "near", 100);
    lab.host(4).register("new", "far", 100);
    everyone(&near, "sees its side's newcomer", secs(5), |host| {
        host.answered("new") == ["near".to_owned()].into()
    });
    everyone(&far, "sees its side's newcomer", secs(5), |host| {
        host.answered("new") == ["far".to_owned()].into()
    });
    lab.host(5).deregister("web-5");
    everyone(&far, "sees its side's loss", secs(5), |host| !host.answered("web").contains("web-5"));
}

#[test]
fn a_host_that_does_not_hear_one_other_harms_nobody() {
    let lab = Lab::start();
    let all: Vec<_> = lab.iter().collect();
    lab.network.deafen(1, &[2]).unwrap();
    let mut down = [None::<Instant>; 2];
    let mut longest = std::time::Duration::ZERO;
    throughout(secs(30), || {
        for (node, since) in ["n1", "n2"].iter().zip(&mut down) {
            let is_down = FAR.iter().any(|host| lab.host(*host).status_of(node) == "down");
            let begun = since.filter(|_| is_down).or(is_down.then(Instant::now));
            *since = begun;
            longest = longest.max(begun.map_or(secs(0), |at| at.elapsed()));
        }
        assert!(longest < secs(3), "others think that one of both is down");
    });
    eprintln!("   {:>8} ms: the longest that a sound host was down", longest.as_millis());
    for number in [1, 2] {
        let id = format!("web-{number}");
        lab.host(number).register("web", &id, 100);
        let what = format!("answers {id}");
        everyone(&all, &what, secs(5), |host| host.answered("web").contains(&id));
    }
    lab.host(2).deregister("web-2");
    everyone(&all, "sees the end of web-2", secs(5), |host| {
        !host.answered("web").contains("web-2")
    });
    lab.network.heal().unwrap();
    lab.all_alive(secs(15));
    lab.catalogs_equal(secs(5));
}
