//! The README's tour, run as it stands: every ```sh tour block, in order, in one shell.

use std::process::{Command, Stdio};

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
    // A group of its own, so that servers which the tour leaves behind end with it.
    let path =
        format!("{}:{}", binary().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let done = Command::new("timeout")
        .args(["--kill-after=5", "120", "setsid", "--wait", "sh", "-c"])
        .arg(format!("trap 'kill 0' EXIT\n(\n{script}\n)"))
        .env("PATH", path)
        .env("DUNLIN_SERVICES", services)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&done.stdout);
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}\n{output}\n{errors}", done.status);
}
