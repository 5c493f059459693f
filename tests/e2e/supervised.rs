//! Under a supervisor that speaks systemd's protocol: readiness, watchdog, sockets handed over, signals.

use std::os::unix::net::UnixDatagram;

use crate::agent::{Agent, debug_binary};
use crate::wait::{WAIT_TIMEOUT, until};

/// The socket on which the agent sends messages to its supervisor.
struct Supervisor(UnixDatagram);

impl Supervisor {
    fn of(agent: &mut Agent) -> Self {
        let path = agent.dir.path().join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        agent.environment.push(("NOTIFY_SOCKET".into(), path.display().to_string()));
        Self(socket)
    }

    /// Waits until the agent sends this message.
    fn expect(&self, word: &str) {
        let mut buffer = [0; 4096];
        loop {
            let octets = self.0.recv(&mut buffer).unwrap_or_else(|e| panic!("no {word}: {e}"));
            if String::from_utf8_lossy(&buffer[..octets]).lines().any(|line| line == word) {
                return;
            }
        }
    }
}

#[test]
fn readiness_watchdog_reload_and_stop_are_told() {
    let mut agent = Agent::place();
    let supervisor = Supervisor::of(&mut agent);
    agent.environment.push(("WATCHDOG_USEC".into(), "200000".into()));
    let mut process = agent.spawn();
    supervisor.expect("READY=1");
    supervisor.expect("WATCHDOG=1");
    process.signal("-HUP");
    supervisor.expect("RELOADING=1");
    supervisor.expect("READY=1");
    process.signal("-TERM");
    supervisor.expect("STOPPING=1");
    assert!(process.0.wait().unwrap().success());
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "parts can be made to hang in debug builds alone")]
fn an_agent_with_a_part_that_hangs_says_so_and_then_starts_itself_anew() {
    let mut agent = Agent::place();
    agent.program = debug_binary();
    let fault = agent.dir.path().join("fault");
    agent.environment.push(("DUNLIN_FAULT".into(), fault.display().to_string()));
    agent.boot();
    agent.register("web-1", r#"{"service":"web","port":80}"#);
    let answered = |agent: &Agent| agent.dig(&["+short", "web.dunlin.internal"]);
    std::fs::write(&fault, "the driver").unwrap();
    until("it is not ready", || agent.curl(&["/readyz"]).0 != 200);
    until("it says what hangs", || agent.log().contains("a part of the agent hangs"));
    assert!(agent.log().contains("the driver has not moved"), "{}", agent.log());
    assert_eq!(answered(&agent).trim(), "127.0.0.1", "what is known is answered meanwhile");
    until("it starts itself anew", || agent.log().contains("the agent starts itself anew"));
    until("it is ready again", || agent.curl(&["/readyz"]).0 == 200);
    assert_eq!(answered(&agent).trim(), "127.0.0.1");
    assert_eq!(agent.process().0.try_wait().unwrap(), None, "it is the same process");
    agent.register("web-2", r#"{"service":"web","port":81}"#);
}

#[test]
fn a_changed_configuration_is_taken_and_a_broken_one_is_not() {
    let mut agent = Agent::place();
    let file = agent.dir.path().join("dunlin.toml");
    std::fs::write(&file, "[dns]\nttl = \"1s\"\n").unwrap();
    agent.boot();
    agent.register("web-1", r#"{"service":"web","port":80}"#);
    let ttl = |agent: &Agent| {
        let answer = agent.dig(&["+noall", "+answer", "web.dunlin.internal", "A"]);
        answer.split_whitespace().nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(ttl(&agent), "1");
    std::fs::write(&file, "[dns]\nttl = \"7s\"\n").unwrap();
    agent.process().signal("-HUP");
    until("the new TTL", || ttl(&agent) == "7");
    std::fs::write(&file, "[dns]\nttl = 7 s\n").unwrap();
    agent.process().signal("-HUP");
    until("the refusal is logged", || agent.log().contains("the old one holds"));
    assert_eq!(ttl(&agent), "7");
}

#[test]
fn sockets_that_are_handed_over_are_served() {
    // What systemd does: bind, put the descriptors at 3 and up, name them, become the agent.
    let mut agent = Agent::place();
    let script = format!(
        r#"
import os, socket, sys
api = socket.create_server(("127.0.0.1", {api}))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(("127.0.0.1", {dns}))
tcp = socket.create_server(("127.0.0.1", {dns}))
for at, s in enumerate([api, udp, tcp]):
    os.dup2(s.fileno(), 100 + at)
for at in range(3):
    os.dup2(100 + at, 3 + at); os.set_inheritable(3 + at, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="3", LISTEN_FDNAMES="api:dns:dns")
os.execv(sys.argv[1], [sys.argv[1], "agent"])
"#,
        api = agent.api.port(),
        dns = agent.dns.port(),
    );
    // The configured addresses are different ones: the sockets that were handed over take precedence.
    let (api, dns) = (agent.api, agent.dns);
    let elsewhere = Agent::place();
    (agent.api, agent.dns) = (elsewhere.api, elsewhere.dns);
    let mut command = std::process::Command::new("python3");
    command.arg("-c").arg(script).arg(crate::agent::binary());
    for (key, value) in agent.command().get_envs() {
        command.env(key, value.unwrap_or_default());
    }
    let _process = crate::agent::Process::spawn(&mut command);
    (agent.api, agent.dns) = (api, dns);
    until("the API answers on the socket that was handed over", || {
        agent.curl(&["/readyz"]).0 == 200
    });
    agent.register("web-1", r#"{"service":"web","port":80}"#);
    for transport in ["+notcp", "+tcp"] {
        let answer = agent.dig(&[transport, "+short", "web.dunlin.internal"]);
        assert_eq!(answer.trim(), "127.0.0.1", "{transport}");
    }
}
