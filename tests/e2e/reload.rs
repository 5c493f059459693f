//! Every key that is declared reloadable changes what a running agent does, without a restart.
//!
//! The declared keys are taken from the schema of the release, so that a key without an observation here fails.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use dunlin_core::config::Config;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::wait::{WAIT_TIMEOUT, until};

/// One key, a configuration that sets it differently from [`BASE`], and how that shows.
struct Observation {
    key: &'static str,
    config: &'static str,
    /// Observes the agent once. Returns whether it behaves as the changed key says.
    is_changed: fn(&Lab) -> bool,
}

const BASE: &str = "[log]\nfilter = \"warn\"\n";

const OBSERVATIONS: &[Observation] = &[
    Observation {
        key: "dns.ttl",
        config: "[dns]\nttl = \"7s\"\n",
        is_changed: |lab| lab.ttl() == 7,
    },
    Observation {
        key: "guard.max_drop",
        config: "[guard]\nmax_drop = 1\n",
        is_changed: |lab| !lab.is_held(&lab.fresh_service(), &[4, 0]),
    },
    Observation {
        key: "guard.min_instances",
        config: "[guard]\nmin_instances = 5\n",
        is_changed: |lab| {
            !lab.is_held(&lab.fresh_service(), &[4, 0])
                && lab.is_held(&lab.fresh_service(), &[5, 0])
        },
    },
    Observation {
        key: "guard.window",
        config: "[guard]\nwindow = \"1s\"\n",
        // Five of eight vanish, but within a second only two, or three of six.
        is_changed: |lab| !lab.is_held(&lab.fresh_service(), &[8, 6, 3]),
    },
    Observation {
        key: "guard.hold",
        config: "[guard]\nhold = \"1s\"\n",
        is_changed: |lab| {
            let service = lab.fresh_service();
            assert!(lab.is_held(&service, &[4, 0]));
            lab.is_soon(|| !lab.is_guarded(&service))
        },
    },
    Observation {
        key: "guard.panic",
        config: "[guard]\npanic = false\n",
        is_changed: |lab| !lab.panics(&lab.fresh_service()),
    },
    Observation {
        key: "guard.service.NAME.max_drop",
        config: "[guard.service.web]\nmax_drop = 1\n",
        is_changed: |lab| {
            !lab.is_held("web", &[4, 0]) && lab.is_held(&lab.fresh_service(), &[4, 0])
        },
    },
    Observation {
        key: "guard.service.NAME.panic",
        config: "[guard.service.calm]\npanic = false\n",
        is_changed: |lab| !lab.panics("calm") && lab.panics(&lab.fresh_service()),
    },
    Observation {
        key: "log.filter",
        config: "[log]\nfilter = \"info\"\n",
        is_changed: Lab::tells_that_a_file_is_gone,
    },
];

#[test]
fn every_reloadable_key_changes_what_a_running_agent_does() {
    let observed: BTreeSet<String> = OBSERVATIONS.iter().map(|o| o.key.to_owned()).collect();
    assert_eq!(observed, reloadable_keys(), "each declared key has its observation, and no other");
    let mut lab = Lab::start();
    for Observation { key, config, is_changed } in OBSERVATIONS {
        lab.reload("");
        until(&format!("{key} is as it was"), || !is_changed(&lab));
        lab.reload(config);
        until(&format!("{key} is changed"), || is_changed(&lab));
    }
}

/// All keys that the schema marks, with those that are marked by the section they stand in.
fn reloadable_keys() -> BTreeSet<String> {
    fn collect(shape: &Value, path: &str, is_marked: bool, found: &mut BTreeSet<String>) {
        let is_marked = is_marked || shape["x-reload"] == true;
        let named = shape["properties"].as_object().into_iter().flatten();
        let open = Some(&shape["additionalProperties"]).filter(|open| open.is_object());
        let inner =
            named.map(|(name, key)| (name.as_str(), key)).chain(open.map(|key| ("NAME", key)));
        let inner: Vec<_> = inner.collect();
        if inner.is_empty() && is_marked {
            found.insert(path.trim_start_matches('.').to_owned());
        }
        for (name, key) in inner {
            collect(key, &format!("{path}.{name}"), is_marked, found);
        }
    }
    let mut found = BTreeSet::new();
    collect(Config::schema().as_value(), "", false, &mut found);
    found
}

/// An agent, and a server that accepts connections.
struct Lab {
    agent: Agent,
    config: PathBuf,
    server_port: u16,
    services: Cell<u32>,
}

impl Lab {
    fn start() -> Self {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let server_port = server.local_addr().unwrap().port();
        // The thread ends with the process.
        std::thread::spawn(move || server.incoming().for_each(drop));
        let mut agent = Agent::place();
        let config = agent.dir.path().join("dunlin.toml");
        std::fs::write(&config, BASE).unwrap();
        agent.boot();
        let lab = Self { agent, config, server_port, services: Cell::new(0) };
        lab.agent.register("dns-1", r#"{"service":"dns","port":80}"#);
        lab
    }

    /// Gives the agent another configuration, which takes effect a little later.
    fn reload(&mut self, config: &str) {
        let base = if config.contains("[log]") { "" } else { BASE };
        std::fs::write(&self.config, format!("{base}{config}")).unwrap();
        self.agent.process().signal("-HUP");
    }

    fn fresh_service(&self) -> String {
        self.services.set(self.services.get() + 1);
        format!("s{}", self.services.get())
    }

    /// Waits some seconds for a condition that may never hold.
    fn is_soon(&self, is_so: impl Fn() -> bool) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            if is_so() {
                return true;
            }
            sleep(Duration::from_millis(50)); // pause: between two looks at another process
        }
        false
    }

    /// Whether the guard holds what vanishes when a service has these numbers of instances, one after the other.
    fn is_held(&self, service: &str, counts: &[usize]) -> bool {
        self.agent.curl(&["-X", "DELETE", &format!("/api/guard/{service}")]);
        for (at, count) in counts.iter().enumerate() {
            if at > 1 {
                sleep(Duration::from_millis(1_100)); // pause: until what vanished last is a second ago
            }
            let port = self.server_port;
            let instance =
                |n| json!({"id": format!("{service}-{n}"), "service": service, "port": port});
            let set = json!({"instances": (0..*count).map(instance).collect::<Vec<_>>()});
            let (status, answer) =
                self.agent.put(&format!("/api/providers/{service}"), &set.to_string());
            assert_eq!(status, 200, "{answer}");
        }
        self.is_guarded(service)
    }

    fn is_guarded(&self, service: &str) -> bool {
        self.agent.json(&format!("/api/services/{service}"))["guarded"] == true
    }

    /// Whether the only instance of a service goes on being answered when it fails, since it accepts connections.
    fn panics(&self, service: &str) -> bool {
        let (id, port) = (format!("{service}-0"), self.server_port);
        let check = json!([{"kind": "ttl", "ttl": "1h"}]);
        let instance = json!({"service": service, "port": port, "check": check});
        // What an earlier observation left behind is removed.
        self.agent.curl(&["-X", "DELETE", &format!("/api/providers/{service}")]);
        self.agent.register(&id, &instance.to_string());
        for status in ["passing", "critical"] {
            let path = format!("/api/instances/{id}/checks/ttl");
            let (code, answer) = self.agent.put(&path, &json!({"status": status}).to_string());
            assert!((200..300).contains(&code), "{code} {answer}");
        }
        let panics = self.is_soon(|| {
            let answer = self.agent.json(&format!("/api/services/{service}"));
            answer["instances"][0]["standing"] == "panic"
        });
        self.agent.curl(&["-X", "DELETE", &format!("/api/instances/{id}")]);
        panics
    }

    /// The time to live in an answer of DNS.
    fn ttl(&self) -> u32 {
        let question = b"\x03dns\x06dunlin\x08internal\x00\x00\x01\x00\x01";
        let header = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00";
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        socket.send_to(&[&header[..], question].concat(), self.agent.dns).unwrap();
        let mut reply = [0; 512];
        let octets = socket.recv(&mut reply).unwrap();
        // Behind the question: a name of two octets, type and class, then the time to live.
        let at = header.len() + question.len() + 6;
        assert!(octets >= at + 4, "{:?}", &reply[..octets]);
        u32::from_be_bytes(reply[at..at + 4].try_into().unwrap())
    }

    /// Whether the log says at level INFO that a provider file was removed.
    fn tells_that_a_file_is_gone(&self) -> bool {
        let name = format!("{}.toml", self.fresh_service());
        let provider = format!("/api/providers/file:{name}");
        self.agent.write_services(&name, b"instance = []\n");
        until("the file is taken", || self.agent.curl(&[&provider]).0 == 200);
        std::fs::remove_file(self.agent.dir.path().join("services.d").join(&name)).unwrap();
        until("the file is gone", || self.agent.curl(&[&provider]).0 == 404);
        self.is_soon(|| {
            self.agent
                .log()
                .lines()
                .any(|l| l.contains("provider file is gone") && l.contains(&name))
        })
    }
}
