//! The real binary against an agent that is made up: it records what it is asked and answers as told.
#![allow(clippy::unwrap_used, reason = "a test may panic, and its helpers are part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tempfile::TempDir;

/// Generous: only reached when something is broken.
const DEADLINE: Duration = Duration::from_secs(60);

/// More requests than any command makes; a further one would wait until the test has looked.
const MAX_REQUESTS: usize = 64;

type Answers = fn(&str) -> (u16, String);

struct FakeAgent {
    folder: TempDir,
    requests: Receiver<(String, String)>,
}

impl FakeAgent {
    fn start(answers: Answers) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("agent.sock")).unwrap();
        let (sender, requests) = sync_channel(MAX_REQUESTS);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sender = sender.clone();
                std::thread::spawn(move || serve(stream, answers, &sender));
            }
        });
        Self { folder, requests }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    /// The next thing it is asked: method and path, and the body.
    fn next(&self) -> (String, String) {
        self.requests.recv_timeout(DEADLINE).expect("the agent is asked something")
    }
}

fn serve(mut stream: UnixStream, answers: Answers, requests: &SyncSender<(String, String)>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        head.push(line.to_ascii_lowercase());
    }
    let length = head.iter().find_map(|l| l.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |l| l.trim().parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let call = head[0].trim().trim_end_matches(" http/1.1").to_owned();
    let (status, answer) = answers(&call);
    let length = answer.len();
    // Recorded first: what the test then does may end the process that waits for the answer.
    let _ = requests.send((call, String::from_utf8(body).unwrap()));
    let _ = write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{answer}");
}

fn dunlin(agent: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dunlin"));
    command.arg("--agent").arg(agent).args(arguments);
    command.env_remove("DUNLIN_AGENT").env_remove("DUNLIN_CONFIG");
    command
}

fn finish(agent: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = dunlin(agent, arguments).output().unwrap();
    let text = |octets| String::from_utf8(octets).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A `dunlin run` that is killed if the test gives up on it.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    fn start(agent: &Path, arguments: &[&str]) -> Self {
        let mut command = dunlin(agent, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    fn exit_code(mut self) -> i32 {
        self.child.wait().unwrap().code().expect("it ends by itself")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn instance(zone: &str, address: &str, port: u16) -> String {
    format!(
        r#"{{"id":"i{port}","node":"n","zone":"{zone}","address":"{address}","port":{port},
        "weight":100,"tags":[],"meta":{{}},"health":"passing","checks":[]}}"#
    )
}

fn answers(call: &str) -> (u16, String) {
    if call.starts_with("get /api/services/none") {
        return (200, r#"{"service":"none","index":1,"guarded":false,"instances":[]}"#.into());
    }
    if call.starts_with("get /api/services/db") {
        let [near, too, far] = [("eu1", "::1", 1), ("eu1", "10.0.0.2", 2), ("us1", "10.0.0.3", 3)]
            .map(|(zone, address, port)| instance(zone, address, port));
        let instances = format!("[{near},{too},{far}]");
        return (
            200,
            format!(r#"{{"service":"db","index":1,"guarded":false,"instances":{instances}}}"#),
        );
    }
    if call.starts_with("get") {
        return (404, r#"{"error":"there is no such service","hint":"look again"}"#.into());
    }
    (200, String::new())
}

#[test]
fn lookup_prints_the_nearest_zone_and_all_on_request() {
    let agent = FakeAgent::start(answers);
    let socket = agent.socket();
    assert_eq!(finish(&socket, &["lookup", "db"]), (0, "[::1]:1\n10.0.0.2:2\n".into(), "".into()));
    assert_eq!(agent.next().0, "get /api/services/db?health=healthy");
    let (code, out, _) = finish(&socket, &["lookup", "db", "--all"]);
    assert_eq!((code, out.lines().count()), (0, 3));
    finish(&socket, &["lookup", "db", "--zone", "us1"]);
    agent.next();
    assert_eq!(agent.next().0, "get /api/services/db?health=healthy&zone=us1");
    let (_, json, _) = finish(&socket, &["--output", "json", "lookup", "db"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["instances"].as_array().unwrap().len(), 2);
}

#[test]
fn lookup_ends_with_1_when_nothing_is_found_and_3_without_an_agent() {
    let agent = FakeAgent::start(answers);
    let (code, out, error) = finish(&agent.socket(), &["lookup", "none"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(error.contains("no instance of none is healthy"), "{error}");
    let (code, _, error) = finish(&agent.socket(), &["lookup", "absent"]);
    assert_eq!(code, 1);
    assert!(error.contains("there is no such service\nlook again"), "{error}");

    let nowhere = agent.folder.path().join("nowhere.sock");
    let (code, _, error) = finish(&nowhere, &["lookup", "web"]);
    assert_eq!(code, 3);
    assert!(error.contains("nowhere.sock") && error.contains("dunlin dev"), "{error}");
}

#[test]
fn run_announces_passes_the_exit_code_and_takes_it_back() {
    let agent = FakeAgent::start(answers);
    let run = ["run", "--service", "web:80", "--id", "web-1", "--check", "tcp", "--"];
    let command = ["sh", "-c", "read line; echo got $line; exit 7"];
    let mut running = Running::start(&agent.socket(), &[&run[..], &command[..]].concat());
    let (call, body) = agent.next();
    assert_eq!(call, "put /api/providers/run.web-1");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let instance = serde_json::json!({
        "id": "web-1", "service": "web", "port": 80, "check": [{"kind": "tcp"}]
    });
    assert_eq!(body, serde_json::json!({"instances": [instance], "ttl": "15s"}));

    running.child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    assert_eq!(running.read_line(), "got hello");
    assert_eq!(running.exit_code(), 7);
    assert_eq!(agent.next().0, "delete /api/providers/run.web-1");
}

#[test]
fn run_drains_before_it_passes_sigterm_on() {
    let agent = FakeAgent::start(answers);
    let script = "trap 'kill $!; echo asked; exit 3' TERM; sleep 1000 & echo ready; wait";
    let run = ["run", "--service", "web:80", "--id", "web-1", "--", "sh", "-c", script];
    let mut running = Running::start(&agent.socket(), &run);
    assert_eq!(running.read_line(), "ready");
    assert_eq!(agent.next().0, "put /api/providers/run.web-1");
    running.signal("TERM");
    assert_eq!(agent.next().0, "put /api/instances/web-1/drain");
    assert_eq!(running.read_line(), "asked");
    assert_eq!(running.exit_code(), 3);
    assert_eq!(agent.next().0, "delete /api/providers/run.web-1");
}

#[test]
fn run_passes_other_signals_on_and_a_killing_one_back() {
    let agent = FakeAgent::start(answers);
    let script = "trap 'echo usr1; kill $!' USR1; sleep 1000 & echo ready; wait; kill -s KILL $$";
    let mut running =
        Running::start(&agent.socket(), &["run", "--service", "web:80", "--", "sh", "-c", script]);
    assert_eq!(running.read_line(), "ready");
    running.signal("USR1");
    assert_eq!(running.read_line(), "usr1");
    assert_eq!(running.exit_code(), 128 + 9);
}

#[test]
fn run_injects_addresses_and_refuses_to_start_without() {
    let agent = FakeAgent::start(answers);
    let with = |service| {
        let variable = format!("DB={service}");
        finish(
            &agent.socket(),
            &["run", "--service", "web:80", "--env", &variable, "--", "sh", "-c", "echo $DB"],
        )
    };
    let (code, out, _) = with("db");
    assert_eq!((code, out.as_str()), (0, "[::1]:1\n"));
    let (code, out, error) = with("none");
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(error.contains("no instance of none is healthy"), "{error}");
    assert!(error.contains("--wait-env"), "{error}");
}

#[test]
fn run_goes_on_without_an_agent() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, error) = finish(
        &folder.path().join("nowhere.sock"),
        &["run", "--service", "web:80", "--", "sh", "-c", "echo works; exit 5"],
    );
    assert_eq!((code, out.as_str()), (5, "works\n"));
    // The word about the agent comes from a task that a short command may outrun.
    assert!(error.is_empty() || error.contains("not announced"), "{error}");
}

#[test]
fn a_registration_is_sent_whole_or_not_at_all() {
    let agent = FakeAgent::start(|call| match call.starts_with("put") {
        true => (201, instance("eu1", "127.0.0.1", 80)),
        false => (200, String::new()),
    });
    let socket = agent.socket();
    let file = agent.folder.path().join("web.toml");
    let file_name = file.to_str().unwrap();
    let one = "[[instance]]\nid = \"a\"\nservice = \"web\"\nport = 80\n";
    std::fs::write(&file, format!("{one}[[instance]]\nid = \"b\"\nservice = \"we b\"\nport = 1\n"))
        .unwrap();
    let (code, _, error) = finish(&socket, &["register", file_name]);
    assert_eq!(code, 2);
    assert!(error.contains("instance \"b\"") && error.contains("holds ' '"), "{error}");

    std::fs::write(&file, one).unwrap();
    let (code, _, _) = finish(&socket, &["register", file_name]);
    assert_eq!(code, 0);
    // The bad file had asked the agent nothing.
    assert_eq!(agent.next().0, "put /api/instances/a");
    assert_eq!(finish(&socket, &["deregister", "a"]).0, 0);
    assert_eq!(agent.next().0, "delete /api/instances/a");
}

#[test]
fn configuration_errors_end_with_2_and_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dunlin.toml");
    std::fs::write(&file, "[dns]\n\nlisen = \"127.0.0.1:53\"\n").unwrap();
    let (code, _, error) =
        finish(Path::new("/nowhere.sock"), &["config", "check", file.to_str().unwrap()]);
    assert_eq!(code, 2);
    assert!(error.contains("dunlin.toml:3: unknown key \"dns.lisen\""), "{error}");
    assert!(error.contains("did you mean \"dns.listen\"?"), "{error}");
}

#[test]
fn a_node_is_drained_or_an_instance_but_not_both() {
    let agent = FakeAgent::start(answers);
    let socket = agent.socket();
    let asked = |agent: &FakeAgent| {
        let (call, body) = agent.next();
        format!("{call} {body}")
    };
    assert_eq!(finish(&socket, &["drain", "--node"]).0, 0);
    assert_eq!(asked(&agent), r#"put /api/node/drain {"enabled":true}"#);
    assert_eq!(finish(&socket, &["drain", "--node", "--off"]).0, 0);
    assert_eq!(asked(&agent), r#"put /api/node/drain {"enabled":false}"#);
    assert_eq!(finish(&socket, &["drain", "web-1", "--node"]).0, 2);
    assert_eq!(finish(&socket, &["drain"]).0, 2);
    // What was wrong use had asked the agent nothing.
    assert_eq!(finish(&socket, &["drain", "web-1"]).0, 0);
    assert_eq!(agent.next().0, "put /api/instances/web-1/drain");
}
