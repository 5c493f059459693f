//! Hosts whose clock is wrong. The certificates of a lab have been valid for a day.

use super::lab::{Lab, everyone, secs, within};

fn a_wrong_clock_harms_nobody(offset: &str) {
    let mut lab = Lab::start();
    lab.host(5).register("web", "web-5", 1);
    lab.host_mut(5).stop();
    lab.host_mut(5).set_clock(offset);
    lab.host_mut(5).boot();
    let started = |host| lab.host(host).metric("dunlin_process_start_time_seconds");
    assert!((started(5) - started(1)).abs() > 1800.0, "its clock is wrong");
    within(secs(15), "n5 says that clocks differ", || lab.host(5).problems().contains("clock"));
    lab.all_alive(secs(10));
    let all: Vec<_> = lab.iter().collect();
    everyone(&all, "answers what it stated before", secs(5), |host| {
        host.answered("web") == ["web-5".to_owned()].into()
    });
    lab.host(5).register("web", "web-5", 2);
    lab.host(5).register("web", "web-6", 2);
    lab.host(1).register("web", "web-1", 2);
    everyone(&all, "answers what is new", secs(5), |host| host.answered("web").len() == 3);
    lab.catalogs_equal(secs(5));
    lab.host(5).deregister("web-6");
    lab.host_mut(5).kill();
    lab.host_mut(5).wrapper.clear();
    lab.host_mut(5).boot();
    lab.all_alive(secs(10));
    lab.host(5).register("web", "web-7", 3);
    let expected = ["web-1", "web-5", "web-7"].map(str::to_owned).into();
    let all: Vec<_> = lab.iter().collect();
    everyone(&all, "answers what it states with its clock right", secs(5), |host| {
        host.answered("web") == expected
    });
    lab.catalogs_equal(secs(5));
}

#[test]
fn a_clock_an_hour_fast_harms_nobody() {
    a_wrong_clock_harms_nobody("+1h");
}

#[test]
fn a_clock_an_hour_slow_harms_nobody() {
    a_wrong_clock_harms_nobody("-1h");
}
