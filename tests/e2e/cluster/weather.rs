//! Networks that lose, delay and reorder.

use super::lab::{Lab, everyone, secs, throughout};
use super::network::Weather;

const BAD: Weather = Weather { loss_percent: 20, delay_millis: 50, jitter_millis: 20 };

#[test]
fn a_bad_network_makes_nobody_falsely_down_and_news_still_arrives() {
    let lab = Lab::start();
    let all: Vec<_> = lab.iter().collect();
    let wire = lab.network.worsen(&BAD);
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
    lab.network.calm(wire);
    lab.all_alive(secs(10));
    lab.catalogs_equal(secs(10));
}
