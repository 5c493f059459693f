//! A host whose firewall lets TCP pass, but not UDP.

use super::lab::{Lab, everyone, secs, throughout};

#[test]
fn a_host_without_udp_stays_a_member_learns_all_and_says_what_is_wrong() {
    let lab = Lab::start();
    let all: Vec<_> = lab.iter().collect();
    lab.host(3).register("web", "web-3", 100);
    everyone(&all, "answers it", secs(5), |host| host.answered("web").contains("web-3"));
    let rule = "meta l4proto udp iifname eth0 drop".to_owned();
    let out = "out:meta l4proto udp oifname eth0 drop".to_owned();
    lab.network.set_firewall(3, &[rule, out]).unwrap();
    let begun = std::time::Instant::now();
    throughout(secs(6), || {
        for host in &all {
            let at = begun.elapsed();
            assert_ne!(host.status_of("n3"), "down", "as {} sees it after {at:?}", host.name());
        }
    });
    let says = |host: &super::host::Host| host.problems().contains("firewall");
    everyone(&[lab.host(3)], "says that a firewall is in the way", secs(30), says);
    throughout(secs(15), || {
        for host in &all {
            assert!(host.answered("web").contains("web-3"), "{}", host.name());
            assert_ne!(host.status_of("n3"), "down", "as {} sees it", host.name());
        }
    });
    lab.host(1).register("db", "db-1", 100);
    everyone(&all, "learns of db-1", secs(5), |host| host.answered("db").contains("db-1"));
    lab.host(1).deregister("db-1");
    everyone(&all, "learns of its end", secs(5), |host| host.answered("db").is_empty());
    lab.host(3).deregister("web-3");
    everyone(&all, "learns of web-3's end", secs(5), |host| host.answered("web").is_empty());
    for host in lab.others(3) {
        assert!(!says(host), "{}: {}", host.name(), host.problems());
    }
    lab.network.heal().unwrap();
    everyone(&[lab.host(3)], "is content again", secs(15), |host| host.problems() == "[]");
    lab.all_alive(secs(10));
    lab.catalogs_equal(secs(5));
}
