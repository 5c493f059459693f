//! Disks that are full or read-only, in mounts of the test's own. They need root.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::agent::{Agent, error_text};
use crate::wait::until;

/// A small file system in memory that is unmounted at the end.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// `None` without the right to mount, which is printed, and is a failure in CI.
    pub(crate) fn new(at: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "dunlin-test"])
            .arg(at)
            .output()
            .unwrap();
        if !mounted.status.success() {
            assert!(std::env::var_os("CI").is_none(), "cannot mount: {}", error_text(&mounted));
            eprintln!("NOT RUN: mounting needs root");
            return None;
        }
        Some(Self(at.to_owned()))
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let done = Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_registrations_and_still_shows_what_dies() {
    let mut agent = Agent::place();
    let Some(mount) = Mount::new(&agent.data_dir(), "size=4m") else { return };
    let mut server = crate::agent::WebServer::start();
    agent.boot();
    let check = r#""check":[{"kind":"tcp","interval":"200ms"}]"#;
    agent.register("web-1", &format!(r#"{{"service":"web","port":{},{check}}}"#, server.port));
    until("it is answered", || agent.lookup("web").len() == 1);
    let filler = agent.data_dir().join("filler");
    // The file is written until the disk is full to its last octet.
    let _ = std::fs::write(&filler, vec![0; 8 << 20]);
    let big = format!(r#"{{"service":"db","port":1,"meta":{{"k":"{}"}}}}"#, "v".repeat(4000));
    let refused = (0..500).map(|n| agent.put(&format!("/api/instances/d{n}"), &big));
    let (_, answer) = refused.into_iter().find(|(status, _)| *status >= 500).expect("a refusal");
    assert!(answer.contains("could not be stored"), "{answer}");
    assert!(agent.json("/api/status")["problems"].to_string().contains("store"));
    server.kill();
    until("a dead server is shown all the same", || agent.lookup("web").is_empty());
    std::fs::remove_file(filler).unwrap();
    until("registrations are taken again", || agent.put("/api/instances/late", &big).0 == 201);
    server.boot();
    until("the server returns", || agent.lookup("web").len() == 1);
    until("all is well", || agent.json("/api/status")["problems"] == serde_json::json!([]));
    agent.kill();
    drop(mount);
}

#[test]
fn a_read_only_data_directory_is_a_clear_error() {
    let agent = Agent::place();
    let Some(mount) = Mount::new(&agent.data_dir(), "size=4m") else { return };
    mount.remount("ro");
    let out = agent.cli(&["agent"]);
    assert_eq!(out.status.code(), Some(1));
    let error = error_text(&out);
    assert!(error.contains("data") && error.contains("Read-only"), "{error}");
}
