//! The same answers, read by other implementations: Knot's client, BIND's clients, and dnspython.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::agent::{Agent, has, text};

/// Debian's own Python, which has Debian's modules.
const PYTHON: &str = "/usr/bin/python3";
/// A file of dnspython, which exists if dnspython is installed.
const DNSPYTHON: &str = "/usr/lib/python3/dist-packages/dns/message.py";
const SOA: &str = "authority dunlin.internal. 1 SOA n1.node.z1.dunlin.internal. \
                   hostmaster.dunlin.internal. SERIAL 3600 600 86400 1";

/// A question, and what every client should read in its answer: code, flags, records in order.
type Case = (&'static str, &'static str, &'static [&'static str]);

const CASES: &[Case] = &[
    (
        "web.dunlin.internal.",
        "A",
        &[
            "NOERROR qr aa rd",
            "answer web.dunlin.internal. 1 A 127.0.0.1",
            "answer web.dunlin.internal. 1 A 127.0.0.9",
        ],
    ),
    (
        "_web._tcp.dunlin.internal.",
        "SRV",
        &[
            "NOERROR qr aa rd",
            "additional 7f000009.ip.node.z1.dunlin.internal. 1 A 127.0.0.9",
            "additional n1.node.z1.dunlin.internal. 1 A 127.0.0.1",
            "answer _web._tcp.dunlin.internal. 1 SRV 0 100 81 7f000009.ip.node.z1.dunlin.internal.",
            "answer _web._tcp.dunlin.internal. 1 SRV 0 7 80 n1.node.z1.dunlin.internal.",
        ],
    ),
    (
        "web.dunlin.internal.",
        "TXT",
        &[
            "NOERROR qr aa rd",
            "answer web.dunlin.internal. 1 TXT \"instances=2\" \"healthy=2\" \"guarded=false\"",
        ],
    ),
    ("web.dunlin.internal.", "AAAA", &["NOERROR qr aa rd", SOA]),
    ("prod.dunlin.internal.", "A", &["NOERROR qr aa rd", SOA]),
    ("nothing.dunlin.internal.", "A", &["NXDOMAIN qr aa rd", SOA]),
    (
        "six.prod.z1.dunlin.internal.",
        "AAAA",
        &["NOERROR qr aa rd", "answer six.prod.z1.dunlin.internal. 1 AAAA fd00::6"],
    ),
    (
        "dunlin.internal.",
        "NS",
        &[
            "NOERROR qr aa rd",
            "additional n1.node.z1.dunlin.internal. 1 A 127.0.0.1",
            "answer dunlin.internal. 1 NS n1.node.z1.dunlin.internal.",
        ],
    ),
    (
        "1.0.0.127.in-addr.arpa.",
        "PTR",
        &["NOERROR qr aa rd", "answer 1.0.0.127.in-addr.arpa. 1 PTR n1.node.z1.dunlin.internal."],
    ),
    (
        "web.dunlin.internal.",
        "ANY",
        &["NOERROR qr aa rd", "answer web.dunlin.internal. 1 HINFO \"RFC8482\" \"\""],
    ),
    ("web.dunlin.internal.", "TYPE65280", &["NOERROR qr aa rd", SOA]),
    ("example.org.", "A", &["REFUSED qr rd"]),
];

fn agent() -> Agent {
    let agent = Agent::start();
    agent.register("web-1", r#"{"service":"web","port":80,"weight":7}"#);
    agent.register("web-2", r#"{"service":"web","port":81,"address":"127.0.0.9"}"#);
    agent.register("six-1", r#"{"service":"six.prod","port":80,"address":"fd00::6"}"#);
    agent
}

/// Asks every question with every client, and compares what the clients read.
fn compare(ways: &[&str], understood: impl Fn(&str, &Case) -> Vec<String>) {
    for case in CASES {
        for way in ways {
            let mut lines = understood(way, case);
            // The code stays in front; the order of records does not matter.
            lines[1..].sort();
            assert_eq!(lines, case.2, "{} {} {way}", case.0, case.1);
        }
    }
}

/// Replaces the SOA's serial, which counts changes and is not known here.
fn without_serial(data: &str) -> String {
    let mut words: Vec<&str> = data.split(' ').collect();
    if words.len() == 7 && words[1].starts_with("hostmaster.") {
        words[2] = "SERIAL";
    }
    words.join(" ")
}

#[test]
fn kdig_understands_every_answer() {
    if !has("kdig") {
        return;
    }
    let agent = agent();
    compare(&["+notcp", "+tcp"], |way, (name, rtype, _)| {
        let out = Command::new("kdig")
            .args(["@127.0.0.1", "-p", &agent.dns.port().to_string(), "+json", way])
            .args(["+retry=0", "+timeout=30", "+edns=0", "+bufsize=1232", name, rtype])
            .output()
            .unwrap();
        let reply: Value = serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|e| panic!("{name} {rtype}: {e}: {}", text(&out)));
        lines_of_json(&reply)
    });
}

/// Lines of a message as RFC 8427 puts it.
fn lines_of_json(reply: &Value) -> Vec<String> {
    let code = match reply["RCODE"].as_u64() {
        Some(0) => "NOERROR",
        Some(3) => "NXDOMAIN",
        Some(5) => "REFUSED",
        other => panic!("code {other:?}"),
    };
    let flags = ["QR", "AA", "TC", "RD", "RA", "AD", "CD"];
    let flags = flags.into_iter().filter(|flag| reply[*flag] == 1).map(str::to_lowercase);
    let mut lines = vec![[vec![code.to_owned()], flags.collect()].concat().join(" ")];
    let mut has_edns = false;
    for section in ["answer", "authority", "additional"] {
        for record in reply[format!("{section}RRs")].as_array().into_iter().flatten() {
            let kind = record["TYPEname"].as_str().unwrap();
            if kind == "OPT" {
                has_edns = record["CLASS"] == 1232;
                continue;
            }
            let data = without_serial(record[format!("rdata{kind}")].as_str().unwrap());
            let owner = record["NAME"].as_str().unwrap();
            lines.push(format!("{section} {owner} {} {kind} {data}", record["TTL"]));
        }
    }
    assert!(has_edns, "{reply}");
    lines
}

#[test]
fn dnspython_understands_every_answer() {
    if !has(DNSPYTHON) {
        return;
    }
    let agent = agent();
    compare(&["udp", "tcp"], |way, (name, rtype, _)| {
        let out = Command::new(PYTHON)
            .args(["-c", include_str!("opinions.py"), way])
            .args([&agent.dns.port().to_string(), *name, *rtype])
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        let mut lines: Vec<String> = text(&out).lines().map(str::to_owned).collect();
        assert_eq!(lines.pop().as_deref(), Some("edns 0 1232"), "{name} {rtype}");
        lines.iter().map(|line| record_without_serial(line)).collect()
    });
}

fn record_without_serial(line: &str) -> String {
    match line.split_once(" SOA ") {
        Some((front, data)) => format!("{front} SOA {}", without_serial(data)),
        None => line.to_owned(),
    }
}

/// delv asks as a validating resolver does, with DO and CD, and rejects malformed answers. It shows the answer section
/// alone, or the reason why there is none.
#[test]
fn delv_understands_every_answer() {
    if !has("delv") {
        return;
    }
    let agent = agent();
    // delv does not resolve meta types.
    for (name, rtype, expected) in CASES.iter().filter(|case| case.1 != "ANY") {
        for way in ["+notcp", "+tcp"] {
            let out = Command::new("delv")
                .args(["@127.0.0.1", "-p", &agent.dns.port().to_string(), "-i", way])
                .args([name, rtype])
                .output()
                .unwrap();
            let told = [text(&out), String::from_utf8_lossy(&out.stderr).into_owned()].concat();
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            let told: Vec<String> = told.lines().map(words).collect();
            for line in wanted_of_delv(expected) {
                let is_told = told.iter().any(|told| told.contains(&line));
                assert!(is_told, "{name} {rtype} {way}: {line:?} is not in {told:#?}");
            }
        }
    }
}

/// The lines that delv prints of an answer that other clients show as `lines`.
fn wanted_of_delv(expected: &[&str]) -> Vec<String> {
    let records = expected.iter().filter_map(|line| line.strip_prefix("answer "));
    let with_class = |record: &str| {
        let mut words: Vec<&str> = record.split(' ').collect();
        words.insert(2, "IN");
        words.join(" ")
    };
    let records: Vec<String> = records.map(with_class).collect();
    match expected[0].split(' ').next() {
        Some("NXDOMAIN") => vec!["ncache nxdomain".to_owned()],
        Some("REFUSED") => vec!["REFUSED".to_owned()],
        _ if records.is_empty() => vec!["ncache nxrrset".to_owned()],
        _ => records,
    }
}
