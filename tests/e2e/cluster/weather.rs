//! Networks that lose, delay and reorder packets.

use std::process::Stdio;

use super::lab::{HOSTS, Lab, everyone, secs, throughout};
use super::network::{Network, run};
use crate::agent::Process;

/// The loss, delay and reordering of a wire, in each direction.
struct Weather {
    loss_percent: u32,
    delay_millis: u32,
    jitter_millis: u32,
}

const BAD: Weather = Weather { loss_percent: 20, delay_millis: 50, jitter_millis: 20 };

#[test]
fn a_bad_network_makes_nobody_falsely_down_and_news_still_arrives() {
    let lab = Lab::start();
    let all: Vec<_> = lab.iter().collect();
    let wire = worsen(&lab.network, &BAD);
    let mut suspected = 0;
    throughout(secs(60), || {
        for host in &all {
            let statuses = host.statuses();
            let is_wrong = |status: &&String| !matches!(status.as_str(), "alive" | "suspect");
            assert_eq!(statuses.values().find(is_wrong), None, "{}: {statuses:?}", host.name());
            suspected += statuses.values().filter(|status| *status == "suspect").count();
        }
    });
    eprintln!("   {suspected:>8} times somebody was seen as suspect");
    for host in &all {
        let id = format!("web-{}", host.number);
        host.register("web", &id, 100);
        let what = format!("answers {id}");
        everyone(&all, &what, secs(5), |host| host.answered("web").contains(&id));
    }
    for host in &all {
        let id = format!("web-{}", host.number);
        host.deregister(&id);
        let what = format!("does not answer {id} any more");
        everyone(&all, &what, secs(5), |host| !host.answered("web").contains(&id));
    }
    calm(&lab.network, wire);
    lab.all_alive(secs(10));
    lab.catalogs_equal(secs(10));
}

/// Puts a slow and lossy wire into the place of the bridge, until what is returned is dropped.
fn worsen(network: &Network, weather: &Weather) -> Process {
    for host in 1..=HOSTS {
        let namespace = network.namespace(host);
        // The wire carries whole frames, with the checksums that a network card would have put in.
        let offload = ["netns", "exec", &namespace, "ethtool", "-K", "eth0", "tx", "off"];
        run("ip", &offload, "").unwrap();
        let cable = format!("h{host}");
        run("ip", &["-n", &network.hub(), "link", "set", &cable, "nomaster"], "").unwrap();
    }
    let mut wire = network.command_in(&network.hub(), "python3");
    wire.args(["-c", include_str!("wire.py"), &weather.loss_percent.to_string()]);
    wire.args([weather.delay_millis.to_string(), weather.jitter_millis.to_string()]);
    wire.args((1..=HOSTS).map(|host| format!("h{host}")));
    Process::spawn(wire.stdin(Stdio::null()))
}

/// Makes the bridge the network again.
fn calm(network: &Network, wire: Process) {
    drop(wire);
    for host in 1..=HOSTS {
        let (hub, cable) = (network.hub(), format!("h{host}"));
        run("ip", &["-n", &hub, "link", "set", &cable, "master", "br0"], "").unwrap();
    }
}
