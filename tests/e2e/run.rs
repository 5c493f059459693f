//! `dunlin run`: the service is announced while the command runs, and no longer.

use std::process::Stdio;

use crate::agent::{Agent, Process, free_port};
use crate::wait::until;

#[test]
fn a_run_announces_checks_and_takes_back() {
    let agent = Agent::start();
    let port = free_port();
    let service = format!("web:{port}");
    let port = port.to_string();
    let mut run = Process::spawn(
        agent
            .command()
            .args(["run", "--service", &service, "--check", "http:/", "--"])
            .args(["python3", "-m", "http.server", &port, "--bind", "127.0.0.1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    until("it is announced", || agent.lookup("web").len() == 1);
    run.signal("-TERM");
    let status = run.0.wait().unwrap();
    assert_eq!(status.code(), Some(128 + 15), "the command's end is passed through");
    assert!(agent.lookup("web").is_empty());
    until("nothing of it is left", || {
        agent.json("/api/instances")["instances"] == serde_json::json!([])
    });
}

#[test]
fn exit_codes_and_addresses_are_passed_through() {
    let agent = Agent::start();
    agent.register("db-1", r#"{"service":"db","port":5432,"address":"127.0.0.7"}"#);
    let out = agent.cli(&[
        "run",
        "--service",
        "web:81",
        "--env",
        "DB=db",
        "--",
        "sh",
        "-c",
        "echo $DB; exit 42",
    ]);
    assert_eq!(crate::agent::text(&out).trim(), "127.0.0.7:5432");
    assert_eq!(out.status.code(), Some(42));
}

#[test]
fn a_run_outlives_its_agent_and_is_announced_again() {
    let mut agent = Agent::start();
    let service = format!("web:{}", free_port());
    let mut run = Process::spawn(
        agent
            .command()
            .args(["run", "--service", &service, "--", "sleep", "1000"])
            .stderr(Stdio::null()),
    );
    until("it is announced", || agent.lookup("web").len() == 1);
    agent.kill();
    assert!(run.0.try_wait().unwrap().is_none());
    agent.boot();
    assert_eq!(agent.lookup("web").len(), 1, "the last known answer");
    run.kill();
    until("a run that was killed is forgotten", || agent.lookup("web").is_empty());
}
