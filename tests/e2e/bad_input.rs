//! Invalid input: it must give a clear error and lose nothing.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use crate::agent::{Agent, error_text};
use crate::wait::until;

const GOOD: &str = "[[instance]]\nid = \"web-1\"\nservice = \"web\"\nport = 80\n";

fn provider_error(agent: &Agent) -> String {
    agent.json("/api/providers")["providers"][0]["error"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn bad_provider_files_keep_the_last_good_state() {
    let agent = Agent::start();
    let large = vec![b'#'; 20 << 20];
    let label =
        format!("{GOOD}[[instance]]\nid = \"x\"\nservice = \"{}\"\nport = 1", "a".repeat(64));
    let cases: [(&[u8], &str); 12] = [
        (b"[[instance]]\nid = \"web-1\"\nserv", "line 3"),
        (b"", "empty"),
        (&large, "octets"),
        (b"\x7fELF\x02\x01\x01\x00\xff\xfe", "not UTF-8"),
        (b"[[instance]]\nid = \"a\"\nid = \"b\"", "duplicate key"),
        (b"instance = 7", "invalid type"),
        (b"[[instance]]\nid = \"a\"\nservice = \"web\"\nport = 1\ncolour = \"red\"", "colour"),
        (label.as_bytes(), "64 octets"),
        (b"[[instance]]\nid = \"a\"\nservice = \"we b\"\nport = 1", "' '"),
        (b"[[instance]]\nid = \"a\"\nservice = \"web\"\nport = 65536", "port 65536"),
        (b"[[instance]]\nid = \"a\"\nservice = \"web\"\nport = 1\naddress = \"db.example\"", "address"),
        (
            b"[[instance]]\nid = \"a\"\nservice = \"web\"\nport = 1\n[[instance.check]]\nkind = \"tcp\"\ninterval = \"1ms\"",
            "interval is 1ms",
        ),
    ];
    for (content, expected) in cases {
        agent.write_services("web.toml", GOOD.as_bytes());
        until("the good file is taken", || {
            agent.lookup("web").len() == 1 && provider_error(&agent).is_empty()
        });
        agent.write_services("web.toml", content);
        until("the bad file is reported", || !provider_error(&agent).is_empty());
        let error = provider_error(&agent);
        assert!(error.contains(expected), "{expected}: {error}");
        assert_eq!(agent.lookup("web").len(), 1, "{expected}: the last good state holds");
    }
    assert!(agent.curl(&["/api/events?follow=false"]).1.contains("ProviderFailed"));
}

#[test]
fn bad_bodies_are_refused_with_the_reason() {
    let agent = Agent::start();
    let long = format!(r#"{{"service":"web","port":1,"meta":{{"k":"{}"}}}}"#, "v".repeat(5000));
    let cases = [
        (r#"{"service":"web""#, 400, "EOF"),
        (r#"{"service":"web","port":0}"#, 400, "port 0"),
        (r#"{"service":"web","port":"80"}"#, 400, "invalid type"),
        (r#"{"service":"web","port":80,"prot":1}"#, 400, "prot"),
        (r#"{"service":"web","port":80,"address":"localhost"}"#, 400, "localhost"),
        (&long, 400, "meta"),
        ("", 400, ""),
    ];
    for (body, status, expected) in cases {
        let (found, answer) = agent.put("/api/instances/web-1", body);
        assert_eq!(found, status, "{body}: {answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert!(answer["error"].as_str().unwrap().contains(expected), "{body}: {answer}");
    }
    assert_eq!(agent.json("/api/instances")["instances"], serde_json::json!([]));
}

#[test]
fn a_page_of_another_site_cannot_speak_to_the_agent() {
    let agent = Agent::start();
    let body = r#"{"service":"web","port":80}"#;
    let put = |host: &str| {
        agent
            .curl(&[
                "-X",
                "PUT",
                "-H",
                &format!("Host: {host}"),
                "-d",
                body,
                "/api/instances/web-1",
            ])
            .0
    };
    assert_eq!(put("rebound.example:5380"), 421);
    assert!(agent.lookup("web").is_empty());
    assert_eq!(put("localhost"), 201);
}

#[test]
fn garbage_on_every_port_stops_nothing() {
    let agent = Agent::start();
    agent.register("web-1", r#"{"service":"web","port":80}"#);
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    for length in 0..2000_usize {
        let packet: Vec<u8> = (0..length % 600)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (noise >> 56) as u8
            })
            .collect();
        udp.send_to(&packet, agent.dns).unwrap();
    }
    for address in [agent.api, agent.dns] {
        for content in [&b"\xff\xff\xff"[..], b"GET / HTTP/9.9\r\n\r\n", &[0; 4000]] {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            // Either side may close first.
            let _ = stream.write_all(content);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read(&mut [0; 4096]);
        }
    }
    assert_eq!(agent.lookup("web"), ["127.0.0.1:80"]);
    assert!(agent.dig(&["+short", "web.dunlin.internal"]).contains("127.0.0.1"));
}

#[test]
fn a_database_that_is_damaged_is_moved_aside() {
    let mut agent = Agent::start();
    agent.register("web-1", r#"{"service":"web","port":80}"#);
    agent.kill();
    for file in ["catalog.db-wal", "catalog.db-shm"] {
        let _ = std::fs::remove_file(agent.data_dir().join(file));
    }
    std::fs::write(agent.data_dir().join("catalog.db"), [0x5a; 5000]).unwrap();
    agent.boot();
    let names: Vec<String> = std::fs::read_dir(agent.data_dir())
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert!(names.iter().any(|n| n.starts_with("catalog.db.damaged")), "{names:?}");
    assert!(agent.json("/api/status")["problems"].to_string().contains("damaged"));
}

#[test]
fn two_agents_do_not_share_a_directory_or_a_port() {
    let agent = Agent::start();
    let same_dir = agent.cli(&["agent"]);
    assert_eq!(same_dir.status.code(), Some(1), "{}", error_text(&same_dir));
    assert!(error_text(&same_dir).contains("in use by another agent"));
    let mut other = Agent::place();
    other.api = agent.api;
    let same_port = other.cli(&["agent"]);
    assert!(
        error_text(&same_port).contains("another program has it"),
        "{}",
        error_text(&same_port)
    );
    other.api = Agent::place().api;
    other.dns = agent.dns;
    let same_dns = other.cli(&["agent"]);
    assert!(error_text(&same_dns).contains("in use"), "{}", error_text(&same_dns));
}

#[test]
fn a_wrong_configuration_names_key_and_line() {
    let agent = Agent::place();
    let file = agent.dir.path().join("bad.toml");
    std::fs::write(&file, "[node]\nname = \"n1\"\n[dns]\nlisen = \"127.0.0.1:1\"\n").unwrap();
    let out = agent.cli(&["--config", file.to_str().unwrap(), "config", "check"]);
    assert_eq!(out.status.code(), Some(2));
    let error = error_text(&out);
    for part in ["lisen", "bad.toml", "4", "listen"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn without_an_agent_commands_say_what_they_tried() {
    let agent = Agent::place();
    let address = format!("http://{}", agent.api);
    let out = agent.cli(&["--agent", &address, "services"]);
    assert_eq!(out.status.code(), Some(3));
    let error = error_text(&out);
    assert!(error.contains(&agent.api.to_string()) && error.contains("dunlin dev"), "{error}");
}
