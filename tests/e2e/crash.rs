//! kill -9 at any moment, and what the agent must still have afterwards.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::agent::{Agent, WebServer};
use crate::wait::until;

const WEB: &str = r#"{"service":"web","port":80}"#;

fn ids(agent: &Agent) -> Vec<String> {
    let instances = agent.json("/api/instances");
    let instances = instances["instances"].as_array().cloned().unwrap_or_default();
    instances.iter().filter_map(|i| i["id"].as_str().map(str::to_owned)).collect()
}

#[test]
fn every_acknowledged_registration_survives_kill_9() {
    let mut agent = Agent::start();
    let acknowledged: Arc<Mutex<Vec<String>>> = Arc::default();
    let next = AtomicUsize::new(0);
    for round in 0..8 {
        let is_over = AtomicBool::new(false);
        let enough = 20 + round * 10;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        let id = format!("w{:05}", next.fetch_add(1, Ordering::Relaxed));
                        let (status, _) = agent.put(&format!("/api/instances/{id}"), WEB);
                        if matches!(status, 200 | 201) {
                            acknowledged.lock().unwrap().push(id);
                        }
                    }
                });
            }
            let before = acknowledged.lock().unwrap().len();
            until("some are acknowledged", || {
                acknowledged.lock().unwrap().len() >= before + enough
            });
            let pid = agent_pid(&agent);
            assert!(
                std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success()
            );
            is_over.store(true, Ordering::Relaxed);
        });
        agent.kill();
        agent.boot();
        let stored = ids(&agent);
        for id in acknowledged.lock().unwrap().iter() {
            assert!(stored.contains(id), "{id} was acknowledged and is gone");
        }
    }
}

/// The agent's pid, found by its lock on the data directory; the scope above borrows the agent.
fn agent_pid(agent: &Agent) -> String {
    let data_dir = agent.data_dir();
    crate::wait::until_some("the agent's process", || {
        std::fs::read_dir("/proc").unwrap().find_map(|entry| {
            let path = entry.ok()?.path();
            let environ = std::fs::read(path.join("environ")).ok()?;
            let wanted = format!("DUNLIN_NODE__DATA_DIR={}", data_dir.display());
            let is_ours = environ.split(|b| *b == 0).any(|v| v == wanted.as_bytes());
            let is_agent = std::fs::read(path.join("cmdline")).ok()?.ends_with(b"\0agent\0");
            (is_ours && is_agent).then(|| path.file_name().unwrap().to_string_lossy().into_owned())
        })
    })
}

#[test]
fn answers_right_after_the_start_are_the_last_known_ones() {
    let mut agent = Agent::start();
    let server = WebServer::start();
    let check = r#""check":[{"kind":"http","path":"/","interval":"1h"}]"#;
    agent.register("web-1", &format!(r#"{{"service":"web","port":{},{check}}}"#, server.port));
    agent.register("web-2", &format!(r#"{{"service":"web","port":1,{check}}}"#));
    let expected = vec![format!("127.0.0.1:{}", server.port)];
    until("only the good one is answered", || agent.lookup("web") == expected);
    agent.kill();
    let offline = agent.cli(&["lookup", "web"]);
    assert_eq!(crate::agent::text(&offline).trim(), expected[0], "from disk");
    assert!(!crate::agent::error_text(&offline).is_empty(), "and says so");
    agent.boot();
    assert_eq!(agent.lookup("web"), expected, "the next check is an hour away");
}

#[test]
fn a_graceful_stop_ends_watches_and_loses_nothing() {
    let mut agent = Agent::start();
    agent.register("web-1", WEB);
    let url = format!("http://{}/api/services/web/watch", agent.api);
    let mut watch = std::process::Command::new("curl")
        .args(["-sN", "--max-time", "60", &url])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("the watch is open", || agent.curl(&["/metrics"]).1.contains("dunlin_watchers 1"));
    agent.process().signal("-TERM");
    assert!(watch.wait().unwrap().success(), "the stream ends cleanly");
    assert!(agent.process().0.wait().unwrap().success());
    agent.boot();
    assert_eq!(ids(&agent), ["web-1"]);
}
