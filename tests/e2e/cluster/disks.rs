//! Disks that are full, restored from an older state, or lost.

use std::path::Path;

use serde_json::json;

use super::host::Host;
use super::lab::{Lab, everyone, secs, within};
use crate::limits::Mount;

/// The largest registration that is allowed, so that a disk fills soon.
fn big(host: &Host, id: &str) -> Result<(), String> {
    let meta: serde_json::Map<_, _> =
        (0..16).map(|n| (format!("k{n}"), "v".repeat(4000).into())).collect();
    let body = json!({"service": "big", "port": 1, "meta": meta});
    let answer = host.put(&format!("/api/instances/{id}"), &body);
    answer.map(drop).map_err(|error| error.to_string())
}

#[test]
fn a_full_disk_on_one_host_hides_nothing_and_harms_no_other() {
    let mut lab = Lab::place();
    let data_dir = lab.host(4).data_dir();
    let mount = Mount::new(&data_dir, "size=8m").expect("cluster tests need root");
    lab.boot();
    lab.host(4).register("web", "web-4", 100);
    let filler = data_dir.join("filler");
    // The file is written until the disk is full to its last octet.
    let _ = std::fs::write(&filler, vec![0; 16 << 20]);
    let refusal = (0..200).find_map(|n| big(lab.host(4), &format!("big-{n}")).err());
    let refusal = refusal.expect("a full disk refuses");
    assert!(refusal.contains("could not be stored"), "{refusal}");
    assert!(lab.host(4).problems().contains("store"), "{}", lab.host(4).problems());
    let all: Vec<_> = lab.iter().collect();
    for number in 0..100 {
        lab.host(1).register("web", &format!("web-1-{number}"), number);
    }
    everyone(&all, "shows what is new elsewhere", secs(5), |host| {
        host.answered("web").len() == 101
    });
    lab.host(1).deregister("web-1-7");
    everyone(&all, "shows what ended elsewhere", secs(5), |host| host.answered("web").len() == 100);
    for host in lab.others(4) {
        assert_eq!(host.problems(), "[]", "{}", host.name());
        assert_eq!(host.status_of("n4"), "alive", "as {} sees it", host.name());
    }
    std::fs::remove_file(filler).unwrap();
    within(secs(10), "registrations are taken again", || big(lab.host(4), "late").is_ok());
    within(secs(10), "n4 is content", || lab.host(4).problems() == "[]");
    lab.catalogs_equal(secs(5));
    lab.host_mut(4).kill();
    lab.host_mut(4).boot();
    lab.all_alive(secs(10));
    lab.catalogs_equal(secs(5));
    lab.host_mut(4).kill();
    drop(mount);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("catalog.db") {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn remove_database(data_dir: &Path) {
    for entry in std::fs::read_dir(data_dir).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("catalog.db") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
}

#[test]
fn a_host_with_an_older_copy_of_its_disk_states_its_truth_anew() {
    let mut lab = Lab::start();
    lab.host(2).register("web", "old", 1);
    lab.host(2).register("web", "gone-later", 1);
    lab.host_mut(2).kill();
    let (data_dir, copied) = (lab.host(2).data_dir(), lab.dir.path().join("copy"));
    copy(&data_dir, &copied);
    lab.host_mut(2).boot();
    for number in 0..20 {
        lab.host(2).register("web", &format!("new-{number}"), 1);
    }
    lab.host(2).register("web", "old", 9);
    lab.host(2).deregister("gone-later");
    everyone(&lab.others(2), "knows the later state", secs(10), |host| {
        host.answered("web").len() == 21
    });
    lab.host_mut(2).kill();
    remove_database(&data_dir);
    copy(&copied, &data_dir);
    lab.host_mut(2).boot();
    let all: Vec<_> = lab.iter().collect();
    let expected = ["old", "gone-later"].map(str::to_owned).into();
    everyone(&all, "knows what the copy says, and no more", secs(15), |host| {
        host.answered("web") == expected
    });
    lab.all_alive(secs(10));
    lab.host(2).register("web", "newest", 1);
    everyone(&all, "hears it", secs(5), |host| host.answered("web").contains("newest"));
    lab.catalogs_equal(secs(5));
}

#[test]
fn a_host_that_lost_its_database_states_its_truth_anew() {
    let mut lab = Lab::start();
    for number in 0..20 {
        lab.host(2).register("web", &format!("web-{number}"), 1);
    }
    lab.host(3).register("web", "other", 1);
    let all: Vec<_> = lab.iter().collect();
    everyone(&all, "knows all", secs(5), |host| host.answered("web").len() == 21);
    lab.host_mut(2).kill();
    let data_dir = lab.host(2).data_dir();
    remove_database(&data_dir);
    lab.host_mut(2).boot();
    let all: Vec<_> = lab.iter().collect();
    everyone(&all, "knows that n2 has none", secs(15), |host| {
        host.answered("web") == ["other".to_owned()].into()
    });
    lab.all_alive(secs(10));
    lab.host(2).register("web", "web-new", 1);
    everyone(&all, "hears what it states now", secs(5), |host| {
        host.answered("web").contains("web-new")
    });
    lab.catalogs_equal(secs(5));
}
