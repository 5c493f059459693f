//! Unauthenticated peers and faulty agents at the cluster's port.

use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, Instant};

use dunlin_agent::net::GOSSIP;
use dunlin_agent::net::tls::SharedCredentials;
use dunlin_agent::net::tls::issue::Validity;
use dunlin_core::config::ClusterTls;
use dunlin_core::gossip::{Frame, Hello, Peer};
use dunlin_core::model::{NodeId, NodeName, ZoneName};
use dunlin_core::replica::Version;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::host::{Host, RUNTIME};
use super::lab::{Lab, everyone, secs, throughout, within};
use super::network::address;
use crate::agent::Process;

/// Bits of a piece's header. This one marks the urgent lane, on which a frame may have a mebibyte.
const URGENT: u32 = 1 << 24;
/// Marks the last piece of a frame.
const LAST: u32 = 1 << 25;
/// The address that intruders claim. No host has it, so no connection to it is refused, and they count as members for some
/// seconds.
const NOWHERE: &str = "10.77.0.77:5370";

fn target() -> SocketAddr {
    format!("{}:5370", address(1)).parse().unwrap()
}

/// The number of faults of a kind that the first agent has counted.
fn faults(lab: &Lab, kind: &str) -> f64 {
    lab.host(1).metric(&format!("dunlin_cluster_faults_total{{fault=\"{kind}\"}}"))
}

/// Asserts that the four real agents know each other and that news passes between them.
fn all_is_well(lab: &Lab, round: usize) {
    let four: Vec<&Host> = lab.others(5);
    everyone(&four, "sees four hosts alive", secs(10), |host| {
        let statuses = host.statuses();
        (1..=4).all(|n| statuses.get(&format!("n{n}")).is_some_and(|status| status == "alive"))
    });
    let id = format!("web-{round}");
    lab.host(1).register("web", &id, 1);
    everyone(&four, "hears news of n1", secs(5), |host| host.answered("web").contains(&id));
}

/// A lab in which unauthenticated peers are on the fifth host, which has no agent.
fn four() -> Lab {
    let mut lab = Lab::place();
    for number in 1..=4 {
        lab.host_mut(number).spawn();
    }
    for number in 1..=4 {
        lab.host_mut(number).wait_ready();
    }
    all_is_well(&lab, 0);
    lab
}

fn connect(lab: &Lab) -> TcpStream {
    lab.network.on(5, || TcpStream::connect_timeout(&target(), secs(5))).unwrap().unwrap()
}

/// Random octets of no known format.
fn noise(seed: u64, octets: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..octets).map(|_| next()).collect()
}

#[test]
fn noise_and_silence_at_the_port_harm_nobody() {
    let lab = four();
    let before = (faults(&lab, "handshake"), faults(&lab, "seal"), faults(&lab, "connections"));
    for seed in 0..20 {
        // The agent may have hung up already.
        let _ = connect(&lab).write_all(&noise(seed, 4096));
    }
    let udp = lab.network.on(5, || UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    for seed in 0..1000 {
        udp.send_to(&noise(seed, 1 + usize::try_from(seed).unwrap() % 1300), target()).unwrap();
    }
    let silent: Vec<TcpStream> = lab
        .network
        .on(5, || {
            let connect = || TcpStream::connect_timeout(&target(), secs(5)).ok();
            (0..2000).map_while(|_| connect()).collect()
        })
        .unwrap();
    eprintln!("   {} connections that say nothing", silent.len());
    all_is_well(&lab, 1);
    within(secs(10), "what strangers do is counted", || {
        faults(&lab, "handshake") > before.0
            && faults(&lab, "seal") > before.1
            && faults(&lab, "connections") > before.2
    });
    let begun = Instant::now();
    drop(silent);
    within(secs(20), "the agent has let go of them", || {
        lab.host(1).metric("dunlin_process_open_fds") < 100.0
    });
    eprintln!("   {:>8} ms: they are gone", begun.elapsed().as_millis());
    all_is_well(&lab, 2);
}

#[test]
fn tls_without_a_certificate_is_refused() {
    let lab = four();
    let before = faults(&lab, "handshake");
    let out = lab
        .host(5)
        .command("python3")
        .args(["-c", include_str!("anonymous.py"), &address(1)])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = crate::agent::text(&out);
    assert!(said.contains("refused"), "{said}{}", crate::agent::error_text(&out));
    within(secs(5), "it is counted", || faults(&lab, "handshake") > before);
    assert!(lab.host(1).log().contains("10.77.0.5"), "and logged");
    all_is_well(&lab, 1);
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A peer with a valid certificate that has said hello, as node x1.
struct Intruder {
    stream: Box<dyn Stream>,
}

impl Intruder {
    fn new(lab: &Lab, number: u8) -> Self {
        let dir = lab.dir.path().join(format!("x{number}"));
        std::fs::create_dir_all(&dir).unwrap();
        let name = format!("x{number}");
        let issued = lab.authority.issue(&name, "z2", Validity::days(10));
        let file = |file| dir.join(file);
        let files = ClusterTls { ca: file("ca"), cert: file("crt"), key: file("key") };
        std::fs::write(&files.ca, lab.authority.certificate()).unwrap();
        std::fs::write(&files.cert, issued.certificate).unwrap();
        std::fs::write(&files.key, issued.key).unwrap();
        let (node, zone) = (NodeName::parse(&name).unwrap(), ZoneName::parse("z2").unwrap());
        let connector =
            SharedCredentials::load(files, node.clone(), zone.clone()).unwrap().connector();
        let tcp = connect(lab);
        tcp.set_nonblocking(true).unwrap();
        let id = NodeId::from_bytes([number; 16]);
        let hello = Hello {
            minor: 0,
            peer: Peer { id, generation: 1, address: NOWHERE.parse().unwrap() },
            name: node,
            zone,
            your_generation: 0,
            your_head: Version::ZERO,
            your_digest: 0,
            has_forgotten_you: false,
            to: None,
            summary: 0,
        };
        let mut intruder = RUNTIME.block_on(async {
            let tcp = tokio::net::TcpStream::from_std(tcp).unwrap();
            let (stream, identity) = connector.connect(tcp, target(), GOSSIP, None).await.unwrap();
            assert_eq!(identity.node.as_str(), "n1");
            Self { stream: Box::new(stream) }
        });
        intruder.send(&Frame::Hello(hello).encode(), LAST);
        intruder.hear();
        intruder
    }

    /// Sends a piece of a frame with this header.
    fn send(&mut self, body: &[u8], flags: u32) -> bool {
        let header = u32::try_from(body.len()).unwrap() | flags;
        let mut octets = header.to_le_bytes().to_vec();
        octets.extend(body);
        RUNTIME.block_on(async {
            let written = tokio::time::timeout(secs(5), self.stream.write_all(&octets)).await;
            matches!(written, Ok(Ok(()))) && self.stream.flush().await.is_ok()
        })
    }

    /// Reads what has come. Returns the number of octets, which is zero if the agent has hung up.
    fn hear(&mut self) -> usize {
        let mut buffer = [0; 4096];
        RUNTIME.block_on(async { self.stream.read(&mut buffer).await.unwrap_or(0) })
    }

    /// Waits until the agent hangs up.
    fn is_hung_up_within(&mut self, limit: Duration) -> bool {
        let mut buffer = vec![0; 65536];
        let drained = async { while self.stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {} };
        RUNTIME.block_on(async { tokio::time::timeout(limit, drained).await.is_ok() })
    }
}

#[test]
fn a_member_that_sends_garbage_is_cut_off_and_counted() {
    let lab = four();
    let before = (faults(&lab, "frame"), faults(&lab, "stream"), faults(&lab, "unknown_frame"));
    // A frame of a known kind with random octets in it.
    let mut garbage = Intruder::new(&lab, 101);
    garbage.send(&[&[7_u8][..], &[0xff; 64]].concat(), LAST);
    assert!(garbage.is_hung_up_within(secs(5)), "a malformed frame ends the link");
    let mut oversized = Intruder::new(&lab, 102);
    oversized.send(&[0; 1], 0x00ff_fffe);
    assert!(oversized.is_hung_up_within(secs(5)), "a piece that is too large ends the link");
    let mut endless = Intruder::new(&lab, 103);
    let sent = (0..4096).take_while(|_| endless.send(&[2; 32 * 1024], URGENT)).count();
    assert!(sent < 4096, "a frame without end ends the link");
    let mut newer = Intruder::new(&lab, 104);
    assert!(newer.send(&[200, 1, 2, 3], LAST));
    within(secs(5), "the malformed frame is counted", || faults(&lab, "frame") > before.0);
    within(secs(5), "the broken streams are", || faults(&lab, "stream") >= before.1 + 2.0);
    within(secs(5), "the unknown frame is", || faults(&lab, "unknown_frame") > before.2);
    assert!(newer.send(&[4, 1], LAST), "a newer peer is not cut off");
    all_is_well(&lab, 1);
}

#[test]
fn a_member_that_never_reads_slows_nobody_down() {
    let lab = four();
    let mut deaf = Intruder::new(&lab, 105);
    // It is a member now, so that rows are pushed to it.
    for number in 0..300 {
        let id = format!("busy-{}", number % 50);
        let meta = serde_json::json!({"k": "v".repeat(4000)});
        let body =
            serde_json::json!({"service": "busy", "port": 1, "weight": number, "meta": meta});
        lab.host(2).put(&format!("/api/instances/{id}"), &body).unwrap();
    }
    let four: Vec<&Host> = lab.others(5);
    everyone(&four, "knows all that was pushed", secs(5), |host| host.answered("busy").len() == 50);
    throughout(secs(3), || {
        for host in &four {
            assert!(host.get("/readyz").is_some(), "{}", host.name());
        }
    });
    all_is_well(&lab, 1);
    assert!(deaf.is_hung_up_within(secs(60)), "whoever is not a member any more is cut off");
}

#[test]
fn a_web_server_among_those_to_join_is_named_as_a_problem() {
    let mut lab = Lab::place();
    let mut server = lab.host(5).command("python3");
    server.args(["-m", "http.server", "5370", "--bind", &address(5)]);
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Process::spawn(&mut server);
    let wrong = format!("{}:5370", address(5));
    within(secs(10), "the web server listens", || {
        let wrong = wrong.parse().unwrap();
        lab.network.on(1, || TcpStream::connect_timeout(&wrong, secs(1))).unwrap().is_ok()
    });
    lab.host(1).configure(std::slice::from_ref(&wrong));
    lab.host_mut(1).boot();
    within(secs(10), "the web server is named", || {
        let problems = lab.host(1).problems();
        problems.contains(&wrong) && problems.contains("does not speak TLS")
    });
    lab.host(1).configure(&[wrong, format!("{}:5370", address(2))]);
    lab.host_mut(2).boot();
    lab.host_mut(1).kill();
    lab.host_mut(1).boot();
    within(secs(15), "the other one lets it in", || lab.host(1).status_of("n2") == "alive");
    within(secs(15), "all is well", || lab.host(1).problems() == "[]");
}
