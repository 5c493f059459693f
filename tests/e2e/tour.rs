//! The README's tour, run as it stands: every ```sh tour block, in order, in one shell.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use crate::agent::{Process, binary, has};
use crate::wait::until_some;

const README: &str = include_str!("../../README.md");

fn tour() -> String {
    let mut script = String::from("set -e\n");
    for block in README.split("```sh tour\n").skip(1) {
        script += block.split("```").next().unwrap_or_default();
    }
    script
}

#[test]
fn the_tour_of_the_readme_works() {
    if !(has("dig") && has("curl")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("dev.out");
    let _agent = Process::spawn(
        Command::new(binary())
            .arg("dev")
            .stdout(std::fs::File::create(&out).unwrap())
            .stderr(Stdio::null())
            .stdin(Stdio::null()),
    );
    let services = until_some("dev says where the services folder is", || {
        let text = std::fs::read_to_string(&out).unwrap();
        let line = text.lines().find(|line| line.contains("services folder"))?;
        line.split_whitespace().last().map(str::to_owned)
    });
    let script = tour();
    assert!(script.lines().count() > 5, "the README has a tour");
    let log = dir.path().join("tour.out");
    let file = std::fs::File::create(&log).unwrap();
    let path =
        format!("{}:{}", binary().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let shell = Command::new("sh")
        .args(["-c", &script])
        .env("PATH", path)
        .env("DUNLIN_SERVICES", services)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        // A group of its own, so that servers which the tour leaves behind end with it.
        .process_group(0)
        .spawn()
        .unwrap();
    let mut tour = Group(shell);
    let status = until_some("the tour ends", || tour.0.try_wait().unwrap());
    assert!(status.success(), "{status}\n{}", std::fs::read_to_string(&log).unwrap());
}

/// A process with its group, killed when the test ends.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-9", "--", &group]).status();
        let _ = self.0.wait();
    }
}
