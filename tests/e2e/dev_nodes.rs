//! `dunlin dev --nodes 3`: several agents in one process, and the console that makes faults and undoes them.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{ChildStdin, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::agent::{Process, binary, has, text};
use crate::wait::{until, until_some};

const README: &str = include_str!("../../README.md");
const NODES: [u8; 3] = [1, 2, 3];

fn address(node: u8, port: u16) -> SocketAddr {
    ([127, 0, 0, node], port).into()
}

/// A port that is free on all of the addresses, for UDP and TCP.
fn free_port() -> u16 {
    until_some("a port free on all addresses", || {
        let first = TcpListener::bind(address(1, 0)).ok()?;
        let port = first.local_addr().ok()?.port();
        let others = NODES[1..].iter().map(|node| TcpListener::bind(address(*node, port)));
        let _streams = others.collect::<Result<Vec<_>, _>>().ok()?;
        let datagrams = NODES.iter().map(|node| UdpSocket::bind(address(*node, port)));
        let _datagrams = datagrams.collect::<Result<Vec<_>, _>>().ok()?;
        Some(port)
    })
}

/// Three agents in one process, with the console's other end.
struct Dev {
    process: Process,
    console: Option<ChildStdin>,
    dir: TempDir,
    api: u16,
}

impl Dev {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let api = free_port();
        let file = |name: &str| std::fs::File::create(dir.path().join(name)).unwrap();
        let mut command = Command::new(binary());
        command
            .args(["dev", "--nodes", "3", "--data-dir", "data"])
            .env("DUNLIN_API__LISTEN", format!("127.0.0.1:{api}"))
            .env("DUNLIN_DNS__LISTEN", format!("127.0.0.1:{}", free_port()))
            .env("DUNLIN_CLUSTER__LISTEN", format!("127.0.0.1:{}", free_port()))
            // A killed process leaves its temporary folder behind.
            .env("TMPDIR", dir.path())
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(file("out"))
            .stderr(file("log"));
        let mut process = Process::spawn(&mut command);
        let console = process.0.stdin.take();
        let mut dev = Self { process, console, dir, api };
        until("the agents are up", || {
            if let Some(status) = dev.process.0.try_wait().unwrap() {
                panic!("ended with {status}:\n{}", dev.read("log"));
            }
            dev.read("out").contains("Dunlin is up: 3 nodes")
                && NODES.iter().all(|node| dev.get(*node, "/readyz")["status"] == "ready")
        });
        dev
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// Types a line and waits for its answer.
    fn say(&mut self, line: &str, answer: &str) {
        let before = self.read("out").len();
        writeln!(self.console.as_mut().unwrap(), "{line}").unwrap();
        until(&format!("{line:?} is answered by {answer:?}"), || {
            self.read("out").get(before..).is_some_and(|new| new.contains(answer))
        });
    }

    fn url(&self, node: u8, path: &str) -> String {
        format!("http://{}{path}", address(node, self.api))
    }

    /// The answer of an agent; null if there is none.
    fn get(&self, node: u8, path: &str) -> Value {
        let out = Command::new("curl")
            .args(["-sS", "--max-time", "30", &self.url(node, path)])
            .output()
            .unwrap();
        serde_json::from_str(&text(&out)).unwrap_or(Value::Null)
    }

    fn register(&self, node: u8, id: &str) {
        let body = r#"{"service":"web","port":1}"#;
        let url = self.url(node, &format!("/api/instances/{id}"));
        let out = Command::new("curl").args(["-fsS", "-X", "PUT", "-d", body, &url]).output();
        assert!(out.unwrap().status.success());
    }

    /// The addresses of `web` in an agent's answer, in any zone.
    fn lookup(&self, node: u8) -> Vec<String> {
        let answer = self.get(node, "/api/services/web");
        let instances = answer["instances"].as_array().cloned().unwrap_or_default();
        instances.iter().filter_map(|i| i["address"].as_str().map(str::to_owned)).collect()
    }

    fn is_listening(&self, node: u8) -> bool {
        TcpStream::connect(address(node, self.api)).is_ok()
    }

    fn until_ended(&mut self) {
        let ended = until_some("the process ends", || self.process.0.try_wait().unwrap());
        assert!(ended.success(), "{ended}\n{}", self.read("log"));
        assert!(NODES.iter().all(|node| !self.is_listening(*node)));
    }
}

#[test]
fn each_agent_answers_on_its_own_address_and_quit_stops_them_all() {
    let mut dev = Dev::start();
    for node in NODES {
        let status = dev.get(node, "/api/status");
        assert_eq!(status["node"], format!("n{node}"));
        assert_eq!(status["zone"], format!("z{node}"));
        assert_eq!(status["ready"], true);
        assert!(status["dns"].as_str().unwrap().starts_with(&format!("127.0.0.{node}:")));
        assert!(dev.dir.path().join(format!("data/n{node}/services.d")).is_dir());
    }
    let welcome = dev.read("out");
    let command = format!("--agent {} lookup web", dev.url(3, ""));
    assert!(welcome.contains(&command), "{command}\n{welcome}");
    let log = dev.read("log");
    assert!(NODES.iter().all(|n| log.contains(&format!("agent{{node=\"n{n}\"}}"))), "{log}");
    dev.say("nodes", "SEEN BY n3");
    dev.say("services", "no agent knows a service");
    dev.register(2, "web-2");
    dev.say("services", "web");
    writeln!(dev.console.as_mut().unwrap(), "quit").unwrap();
    dev.until_ended();
}

#[test]
fn wrong_commands_are_answered_with_what_would_be_right() {
    let mut dev = Dev::start();
    dev.say("explode", "error: there is no command \"explode\"; commands: kill, stop, start");
    dev.say("kill z9", "error: there is no \"z9\"");
    dev.say("partition z1|", "error: partition takes two groups or more");
    dev.say(&"x".repeat(100_000), "error: the line is too long");
    dev.say("start z1", "n1 in z1 runs already");
    dev.say("help", "partition z1|z2,z3");
    assert!(NODES.iter().all(|node| dev.get(*node, "/api/status")["ready"] == true));
}

#[test]
fn a_killed_or_stopped_agent_comes_back_with_what_was_registered() {
    let mut dev = Dev::start();
    dev.register(1, "web-1");
    dev.say("kill z1", "n1 in z1 is killed");
    assert!(!dev.is_listening(1) && dev.is_listening(2));
    dev.say("kill n1", "n1 in z1 does not run: it was killed before");
    dev.say("nodes", "killed");
    dev.say("heal", "n1 in z1 runs again");
    assert_eq!(dev.lookup(1), ["127.0.0.1"]);
    dev.say("stop z1", "n1 in z1 has stopped in good order");
    assert!(!dev.is_listening(1));
    dev.say("heal", "n1 in z1 stays stopped; `start z1` brings it back");
    dev.say("start z1", "n1 in z1 runs again");
    assert_eq!(dev.lookup(1), ["127.0.0.1"]);
}

#[test]
fn the_end_of_the_input_does_not_stop_the_agents() {
    let mut dev = Dev::start();
    writeln!(dev.console.as_mut().unwrap(), "kill z2").unwrap();
    dev.console = None;
    until("the last line is obeyed", || !dev.is_listening(2));
    assert!(dev.is_listening(1) && dev.get(3, "/api/status")["ready"] == true);
    dev.process.signal("-TERM");
    dev.until_ended();
}

#[test]
fn what_a_killed_agent_announced_leaves_the_answers_of_others_and_comes_back() {
    let mut dev = Dev::start();
    dev.register(1, "web-1");
    until("n3 knows of it", || dev.lookup(3) == ["127.0.0.1"]);
    dev.say("kill z1", "node n1 is down (seen by n3)");
    until("n3 leaves it out", || dev.lookup(3).is_empty());
    dev.say("heal", "node n1 is back (seen by n3)");
    until("n3 knows of it again", || dev.lookup(3) == ["127.0.0.1"]);
    dev.say("stop z1", "node n1 has left (seen by n3)");
    until("n3 leaves it out", || dev.lookup(3).is_empty());
}

#[test]
fn both_sides_of_a_partition_answer_with_their_own_until_it_heals() {
    let mut dev = Dev::start();
    for node in NODES {
        dev.register(node, &format!("web-{node}"));
    }
    let status = |dev: &Dev, seen_by, node: u8| {
        dev.get(seen_by, &format!("/api/nodes/n{node}"))["status"].as_str().map(str::to_owned)
    };
    until("all see all", || NODES.iter().all(|n| status(&dev, 1, *n) == Some("alive".into())));
    dev.say("partition z1|z2,z3", "cut off from each other: n1 | n2,n3");
    until("both sides see it", || {
        status(&dev, 1, 2) == Some("down".into()) && status(&dev, 3, 1) == Some("down".into())
    });
    assert_eq!(status(&dev, 2, 3), Some("alive".into()));
    until("each side answers with its own", || {
        dev.lookup(1) == ["127.0.0.1"] && dev.lookup(3).len() == 2
    });
    dev.say("heal", "all reach each other again");
    until("all see all again", || {
        let pairs = NODES.iter().flat_map(|a| NODES.map(|b| (*a, b)));
        pairs.into_iter().all(|(a, b)| status(&dev, a, b) == Some("alive".into()))
    });
}

/// The README's tour of several agents: the lines for the shell, and those for the console.
fn tour() -> Vec<(bool, String)> {
    let mut steps = Vec::new();
    for block in README.split("\n```").skip(1) {
        for (kind, is_console) in [("sh cluster\n", false), ("text console\n", true)] {
            if let Some(script) = block.strip_prefix(kind) {
                steps.push((is_console, script.to_owned()));
            }
        }
    }
    steps
}

#[test]
fn the_readme_tour_of_several_agents_works() {
    if !(has("dig") && has("curl")) {
        return;
    }
    let mut dev = Dev::start();
    let steps = tour();
    assert!(steps.len() > 4, "the README has a tour of several agents");
    let path =
        format!("{}:{}", binary().parent().unwrap().display(), std::env::var("PATH").unwrap());
    for (is_console, script) in steps {
        if is_console {
            writeln!(dev.console.as_mut().unwrap(), "{script}").unwrap();
            continue;
        }
        let script = format!("set -e\n{script}").replace(":5380", &format!(":{}", dev.api));
        let log = dev.dir.path().join("tour.out");
        let file = std::fs::File::create(&log).unwrap();
        let mut shell = Process::spawn(
            Command::new("sh")
                .args(["-c", &script])
                .env("PATH", &path)
                .current_dir(dev.dir.path())
                .stdin(Stdio::null())
                .stdout(file.try_clone().unwrap())
                .stderr(file),
        );
        let status = until_some("the step ends", || shell.0.try_wait().unwrap());
        assert!(status.success(), "{script}{status}\n{}", dev.read("tour.out"));
    }
}
