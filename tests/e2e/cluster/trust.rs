//! Agents that the others do not accept, and the reason in their logs.

use std::time::{Duration, SystemTime};

use dunlin_agent::net::tls::issue::Validity;

use super::host::Host;
use super::lab::{Authority, Lab, everyone, secs, throughout, within};

/// Starts all agents but the fifth.
fn boot_four(lab: &mut Lab) {
    for number in 1..=4 {
        lab.host_mut(number).spawn();
    }
    for number in 1..=4 {
        lab.host_mut(number).wait_ready();
    }
    four_are_well(lab, 10);
}

fn four_are_well(lab: &Lab, limit: u64) {
    let four: Vec<&Host> = lab.others(5);
    everyone(&four, "sees four hosts alive and no other", secs(limit), |host| {
        let statuses = host.statuses();
        statuses.len() == 4 && statuses.values().all(|status| status == "alive")
    });
}

/// Waits until a host's log holds a text.
fn says(host: &Host, words: &[&str]) {
    let what = format!("the log of {} says {words:?}", host.name());
    within(secs(20), &what, || {
        host.log().lines().any(|line| words.iter().all(|word| line.contains(word)))
    });
}

/// Gives the fifth a certificate that expired an hour ago.
fn certify_expired(lab: &Lab) {
    let hour = Duration::from_secs(3600);
    let now = SystemTime::now();
    let validity = Validity { not_before: now - 5 * hour, not_after: now - hour };
    let issued = lab.authority.issue("n5", "z2", validity);
    lab.host(5).certify(lab.authority.certificate(), &issued);
}

/// Asserts that none of the four has accepted the fifth.
fn stays_out(lab: &Lab) {
    throughout(secs(3), || {
        for host in lab.others(5) {
            assert!(!host.statuses().contains_key("n5"), "{} let it in", host.name());
        }
    });
}

#[test]
fn an_agent_of_another_authority_is_refused_until_it_has_the_right_files() {
    let mut lab = Lab::place();
    let other = Authority::new("another lab");
    let issued = other.issue("n5", "z2", Validity::days(10));
    lab.host(5).certify(other.certificate(), &issued);
    boot_four(&mut lab);
    lab.host_mut(5).boot();
    says(lab.host(1), &["10.77.0.5", "handshake"]);
    within(secs(10), "n5 says why it is alone", || {
        lab.host(5).problems().contains("none of our authorities signed it")
    });
    says(lab.host(5), &["none of our authorities signed it", "lab"]);
    stays_out(&lab);
    lab.certify(lab.host(5));
    lab.all_alive(secs(30));
    within(secs(10), "n5 is content", || lab.host(5).problems() == "[]");
    lab.host(5).register("web", "web-5", 1);
    let all: Vec<_> = lab.iter().collect();
    everyone(&all, "answers it", secs(5), |host| host.answered("web").len() == 1);
}

#[test]
fn an_agent_whose_authority_only_the_others_lack_hears_that_it_was_refused() {
    // It accepts their certificates, but they do not accept its own.
    let mut lab = Lab::place();
    let other = Authority::new("another lab");
    let issued = other.issue("n5", "z2", Validity::days(10));
    let both = format!("{}{}", lab.authority.certificate(), other.certificate());
    lab.host(5).certify(&both, &issued);
    boot_four(&mut lab);
    lab.host_mut(5).boot();
    says(lab.host(1), &["10.77.0.5", "none of our authorities signed it", "another lab"]);
    within(secs(10), "n5 says why it is alone", || {
        lab.host(5).problems().contains("none of its authorities signed it")
    });
    says(lab.host(5), &["none of its authorities signed it"]);
    stays_out(&lab);
    lab.certify(lab.host(5));
    lab.all_alive(secs(30));
}

#[test]
fn an_expired_certificate_is_refused_until_there_is_a_new_one() {
    let mut lab = Lab::place();
    certify_expired(&lab);
    boot_four(&mut lab);
    // By the fifth host's own clock the certificate is still valid.
    lab.host_mut(5).set_clock("-2h");
    lab.host_mut(5).boot();
    says(lab.host(1), &["10.77.0.5", "it expired on"]);
    within(secs(10), "n5 says why it is alone", || lab.host(5).problems().contains("has expired"));
    stays_out(&lab);
    lab.certify(lab.host(5));
    lab.all_alive(secs(30));
}

#[test]
fn an_agent_with_the_certificate_of_another_node_does_not_start() {
    let lab = Lab::place();
    let issued = lab.authority.issue("n4", "z2", Validity::days(10));
    lab.host(5).certify(lab.authority.certificate(), &issued);
    let out = lab.host(5).agent_command().output().unwrap();
    let error = crate::agent::error_text(&out);
    assert_eq!(out.status.code(), Some(1), "{error}");
    assert!(error.contains("node.crt is the certificate of"), "{error}");
    assert!(error.contains("--node n5 --zone z2"), "it says how to mend it: {error}");
}

#[test]
fn an_agent_whose_certificate_has_expired_answers_alone_and_says_so() {
    let mut lab = Lab::place();
    certify_expired(&lab);
    boot_four(&mut lab);
    lab.host_mut(5).boot();
    within(secs(10), "n5 says that it has expired", || lab.host(5).problems().contains("expired"));
    lab.host(5).register("web", "web-5", 1);
    assert_eq!(lab.host(5).answered("web").len(), 1, "it answers what it knows");
    stays_out(&lab);
    lab.certify(lab.host(5));
    lab.all_alive(secs(30));
    let all: Vec<_> = lab.iter().collect();
    everyone(&all, "answers it", secs(5), |host| host.answered("web").len() == 1);
}
