//! The server over real sockets on loopback addresses.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use dunlin_core::catalog::{Endpoint, NodeStatus, NodeView, Standing, Topology};
use dunlin_core::dns::{Domain, Query, QuestionKey, Resolution, resolve, rtype};
use dunlin_core::model::{
    Health, Instance, InstanceFields, InstanceId, NodeId, NodeName, NodePhase, NodeRow, ProviderId,
    ServiceName, ZoneName,
};
use socket2::SockRef;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(30);

fn view_with(service: &str, addresses: &[[u8; 4]]) -> CatalogView {
    let own_zone = ZoneName::parse("z1").unwrap();
    let row = Arc::new(NodeRow {
        name: NodeName::parse("n1").unwrap(),
        zone: own_zone.clone(),
        address: [127, 0, 0, 1].into(),
        serves_dns: true,
        meta: BTreeMap::new(),
        phase: NodePhase::Active,
    });
    let id = NodeId::from_bytes([1; 16]);
    let topology = Topology { own_zone, nearest_zones: vec![] };
    let mut view = CatalogView::empty(topology, 0);
    view.advance();
    view.put_node(NodeView { id, row: Arc::clone(&row), status: NodeStatus::Alive });
    let service = ServiceName::parse(service).unwrap();
    let endpoints = addresses.iter().enumerate().map(|(index, address)| {
        let fields = InstanceFields {
            id: InstanceId::parse(&format!("i{index}")).unwrap(),
            service: service.clone(),
            address: (*address).into(),
            port: 80,
            weight: 100,
            tags: vec![],
            meta: BTreeMap::new(),
            provider: ProviderId::api(),
        };
        Endpoint {
            node_id: id,
            node: Arc::clone(&row),
            instance: Arc::new(Instance::new(fields).unwrap()),
            health: Health::Passing,
            checks: Arc::new([]),
            standing: Standing::Regular,
        }
    });
    view.put_service(service.clone(), None, endpoints.collect());
    view
}

fn settings() -> DnsSettings {
    let domain = Domain::parse("dunlin.internal").unwrap();
    DnsSettings::new(domain, NodeName::parse("n1").unwrap())
}

#[test]
fn what_a_catalog_answered_is_not_told_of_the_next_one() {
    let view = Arc::new(ArcSwap::from_pointee(view_with("web", &[[10, 0, 0, 1]])));
    let stats = DnsStats::new(1);
    let mut worker = Bare::new(Arc::clone(&view), settings(), 16, &stats);
    let (packet, mut reply) = (question(1, "web.dunlin.internal", rtype::A), Vec::new());
    // As after a restart of the driver, each counts from the same index.
    for last in [1, 1, 2, 3] {
        view.store(Arc::new(view_with("web", &[[10, 0, 0, last]])));
        assert!(worker.answer(&packet, &mut reply));
        assert_eq!(reply[reply.len() - 4..], [10, 0, 0, last]);
    }
}

struct Fixture {
    server: Server,
    view: Arc<ArcSwap<CatalogView>>,
    address: SocketAddr,
}

fn start(settings: DnsSettings, limits: Limits) -> Fixture {
    let listeners = bind(([127, 0, 0, 1], 0).into(), 2).unwrap();
    let view = Arc::new(ArcSwap::from_pointee(view_with("web", &[[10, 0, 0, 1]])));
    let server = Server::start(listeners, settings, limits, Arc::clone(&view)).unwrap();
    let address = server.local_addr().unwrap();
    Fixture { server, view, address }
}

fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut packet = id.to_be_bytes().to_vec();
    packet.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).unwrap());
        packet.extend_from_slice(label.as_bytes());
    }
    packet.push(0);
    packet.extend_from_slice(&kind.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    packet
}

fn client() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket
}

fn ask(socket: &UdpSocket, to: SocketAddr, packet: &[u8]) -> Vec<u8> {
    socket.send_to(packet, to).unwrap();
    let mut reply = vec![0; 4096];
    let (len, from) = socket.recv_from(&mut reply).unwrap();
    assert_eq!(from, to);
    reply.truncate(len);
    assert_eq!(reply[..2], packet[..2]);
    reply
}

fn rcode(reply: &[u8]) -> u8 {
    reply[3] & 15
}

fn answer_count(reply: &[u8]) -> u8 {
    reply[7]
}

fn stream(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn framed(packet: &[u8]) -> Vec<u8> {
    let length = u16::try_from(packet.len()).unwrap();
    [&length.to_be_bytes(), packet].concat()
}

fn read_reply(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply).unwrap();
    reply
}

/// That the server has closed a stream, orderly or not.
fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0))
        || matches!(stream.read(&mut [0]), Err(e) if e.kind() == io::ErrorKind::ConnectionReset)
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_are_answered_from_the_cache_until_the_view_changes() {
    let fixture = start(settings(), Limits::default());
    let client = client();
    for id in 0..20 {
        let reply = ask(&client, fixture.address, &question(id, "Web.dunlin.internal", rtype::A));
        assert_eq!((rcode(&reply), answer_count(&reply)), (0, 1));
        assert_eq!(reply[reply.len() - 4..], [10, 0, 0, 1]);
        assert_eq!(&reply[12..16], b"\x03Web");
    }
    let totals = fixture.server.stats().totals();
    assert_eq!((totals.udp_queries, totals.replies[0]), (20, ("noerror", 20)));
    // One client's packets go to one worker, which makes the answer once.
    assert_eq!((totals.cache_misses, totals.cache_hits), (1, 19));
    let mut changed = view_with("web", &[[10, 0, 0, 2], [10, 0, 0, 3]]);
    changed.advance();
    changed.put_service(
        ServiceName::parse("web").unwrap(),
        None,
        changed.service(&ServiceName::parse("web").unwrap()).unwrap().endpoints.to_vec(),
    );
    fixture.view.store(Arc::new(changed));
    let reply = ask(&client, fixture.address, &question(9, "web.dunlin.internal", rtype::A));
    assert_eq!(answer_count(&reply), 2);
    fixture.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_settings_apply_at_once() {
    let fixture = start(settings(), Limits::default());
    let client = client();
    let packet = question(1, "web.dunlin.internal", rtype::A);
    let ttl_of = |reply: &[u8]| reply[reply.len() - 7];
    assert_eq!(ttl_of(&ask(&client, fixture.address, &packet)), 1);
    let mut other = settings();
    other.ttl = Duration::from_secs(30);
    fixture.server.reload(other);
    assert_eq!(ttl_of(&ask(&client, fixture.address, &packet)), 30);
    fixture.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_survived_in_silence_or_with_a_code() {
    let fixture = start(settings(), Limits::default());
    let client = client();
    let good = question(7, "web.dunlin.internal", rtype::A);
    for end in 0..12 {
        client.send_to(&good[..end], fixture.address).unwrap();
    }
    client.send_to(&[0xFF; 5000], fixture.address).unwrap();
    for end in 12..good.len() {
        assert_eq!(rcode(&ask(&client, fixture.address, &good[..end])), 1);
    }
    // Only the good one after all the silence is answered.
    assert_eq!(answer_count(&ask(&client, fixture.address, &good)), 1);
    assert_eq!(fixture.server.stats().totals().dropped, 13);
    fixture.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_take_pipelined_and_half_messages() {
    let fixture = start(settings(), Limits::default());
    let mut stream = stream(fixture.address);
    let packets: Vec<_> =
        (0..50).map(|id| framed(&question(id, "web.dunlin.internal", rtype::A))).collect();
    let all = packets.concat();
    // Forty whole ones and half of the next: replies to the whole ones come nevertheless.
    let cut = all.len() / 50 * 40 + 9;
    stream.write_all(&all[..cut]).unwrap();
    for id in 0..40_u16 {
        let reply = read_reply(&mut stream);
        assert_eq!(reply[..2], id.to_be_bytes());
        assert_eq!(answer_count(&reply), 1);
    }
    for octet in &all[cut..] {
        stream.write_all(&[*octet]).unwrap();
    }
    for id in 40..50_u16 {
        assert_eq!(read_reply(&mut stream)[..2], id.to_be_bytes());
    }
    assert_eq!(fixture.server.stats().totals().tcp_queries, 50);
    fixture.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_a_datagram_comes_whole_on_a_stream() {
    let fixture = start(settings(), Limits::default());
    let many: Vec<_> = (0..100).map(|i| [10, 0, 0, i]).collect();
    fixture.view.store(Arc::new(view_with("many", &many)));
    let packet = question(1, "many.dunlin.internal", rtype::A);
    let reply = ask(&client(), fixture.address, &packet);
    assert!(reply.len() <= 512 && reply[2] & 2 != 0, "truncated");
    let mut stream = stream(fixture.address);
    stream.write_all(&framed(&packet)).unwrap();
    let reply = read_reply(&mut stream);
    assert_eq!((answer_count(&reply), reply[2] & 2), (100, 0));
    assert_eq!(fixture.server.stats().totals().truncated, 1);
    fixture.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_stuck_and_senseless_streams_are_closed() {
    let limits = Limits { tcp_idle: Duration::from_millis(100), ..Limits::default() };
    let fixture = start(settings(), limits);
    let mut silent = stream(fixture.address);
    let mut half = stream(fixture.address);
    half.write_all(&[0, 30, 1, 2, 3]).unwrap();
    let mut short = stream(fixture.address);
    short.write_all(&[0, 3, 1, 2, 3]).unwrap();
    let mut response = stream(fixture.address);
    let mut packet = question(1, "web.dunlin.internal", rtype::A);
    packet[2] |= 0x80;
    response.write_all(&framed(&packet)).unwrap();
    for stream in [&mut silent, &mut half, &mut short, &mut response] {
        assert!(is_closed(stream));
    }
    fixture.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_closed_and_holds_up_nobody() {
    let limits =
        Limits { tcp_idle: Duration::from_millis(200), tcp_connections: 2, ..Limits::default() };
    let fixture = start(settings(), limits);
    let many: Vec<_> = (0..=255).map(|i| [10, 0, 0, i]).collect();
    fixture.view.store(Arc::new(view_with("many", &many)));
    let mut slow = stream(fixture.address);
    SockRef::from(&slow).set_recv_buffer_size(4096).unwrap();
    let flood = framed(&question(1, "many.dunlin.internal", rtype::A)).repeat(1000);
    let writer = thread::spawn(move || {
        // Ends with an error once the server has closed the stream.
        while slow.write_all(&flood).is_ok() {}
    });
    let mut other = stream(fixture.address);
    let packet = framed(&question(2, "many.dunlin.internal", rtype::A));
    other.write_all(&packet).unwrap();
    assert_eq!(answer_count(&read_reply(&mut other)), 0, "256 in the low octet");
    writer.join().unwrap();
    fixture.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_limit_new_streams_are_closed() {
    let limits = Limits { tcp_connections: 1, ..Limits::default() };
    let fixture = start(settings(), limits);
    let mut first = stream(fixture.address);
    let packet = framed(&question(1, "web.dunlin.internal", rtype::A));
    first.write_all(&packet).unwrap();
    read_reply(&mut first);
    assert!(is_closed(&mut stream(fixture.address)));
    first.write_all(&packet).unwrap();
    assert_eq!(answer_count(&read_reply(&mut first)), 1);
    assert_eq!(fixture.server.stats().totals().tcp_refused, 1);
    fixture.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_many_streams_makes_room_for_one_with_few() {
    let limits = Limits { tcp_connections: 3, ..Limits::default() };
    let fixture = start(settings(), limits);
    let mut many: Vec<_> = (0..3).map(|_| stream(fixture.address)).collect();
    let packet = framed(&question(1, "web.dunlin.internal", 1));
    for stream in &mut many {
        stream.write_all(&packet).unwrap();
        read_reply(stream);
    }
    // Another address of this host is another client.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
    let other = socket.connect(fixture.address).await.unwrap().into_std().unwrap();
    let mut other = other;
    other.set_nonblocking(false).unwrap();
    other.set_read_timeout(Some(TIMEOUT)).unwrap();
    other.write_all(&packet).unwrap();
    assert_eq!(answer_count(&read_reply(&mut other)), 1);
    assert!(is_closed(&mut many[2]), "the newest of the greediest");
    many[0].write_all(&packet).unwrap();
    read_reply(&mut many[0]);
    assert_eq!(fixture.server.stats().totals().tcp_displaced, 1);
    fixture.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_rate_limit_a_client_is_sent_to_tcp_where_it_is_answered() {
    let rate_limit = Some(RateLimit { replies_per_second: 1, slip: 1 });
    let fixture = start(settings(), Limits { rate_limit, ..Limits::default() });
    let (socket, packet) = (client(), question(1, "web.dunlin.internal", 1));
    assert_eq!(answer_count(&ask(&socket, fixture.address, &packet)), 1);
    // Were each question to take a second, none would be too many.
    let slipped = (0..60).map(|_| ask(&socket, fixture.address, &packet)).find(|r| r[2] & 2 != 0);
    let slipped = slipped.expect("an empty reply with TC");
    assert_eq!((answer_count(&slipped), slipped.len()), (0, packet.len()));
    let mut stream = stream(fixture.address);
    for _ in 0..3 {
        stream.write_all(&framed(&packet)).unwrap();
        assert_eq!(answer_count(&read_reply(&mut stream)), 1);
    }
    assert!(fixture.server.stats().totals().limit_slipped > 0);
    fixture.server.shutdown().await;
}

/// An upstream that answers `count` datagrams: first a forged reply with another id, then the true one.
fn upstream(count: usize) -> (SocketAddr, JoinHandle<()>) {
    let socket = client();
    let address = socket.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let mut packet = [0; 512];
        for _ in 0..count {
            let (len, from) = socket.recv_from(&mut packet).unwrap();
            let mut reply = packet[..len].to_vec();
            reply[2] |= 0x80;
            let mut forged = reply.clone();
            forged[0] ^= 0xFF;
            forged[3] |= 3;
            socket.send_to(&forged, from).unwrap();
            socket.send_to(&reply, from).unwrap();
        }
    });
    (address, thread)
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_outside_go_to_the_first_upstream_that_answers() {
    let (good, thread) = upstream(1);
    // Nothing listens on the first: its socket is closed again.
    let dead = client().local_addr().unwrap();
    let mut with_upstreams = settings();
    with_upstreams.upstreams = vec![dead, good];
    let fixture = start(with_upstreams, Limits::default());
    let packet = question(77, "example.org", rtype::A);
    let reply = ask(&client(), fixture.address, &packet);
    assert_eq!((rcode(&reply), &reply[12..]), (0, &packet[12..]));
    thread.join().unwrap();
    assert_eq!(fixture.server.stats().totals().forwarded, 1);
    fixture.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_upstream_that_answers_there_is_servfail() {
    let mute = client();
    let mut with_upstreams = settings();
    with_upstreams.upstreams = vec![mute.local_addr().unwrap()];
    let limits = Limits { forward_timeout: Duration::from_millis(20), ..Limits::default() };
    let fixture = start(with_upstreams, limits);
    let packet = question(5, "example.org", rtype::A);
    assert_eq!(rcode(&ask(&client(), fixture.address, &packet)), 2);
    let mut stream = stream(fixture.address);
    stream.write_all(&framed(&packet)).unwrap();
    assert_eq!(rcode(&read_reply(&mut stream)), 2);
    assert_eq!(fixture.server.stats().totals().forward_failures, 2);
    fixture.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_limit_of_forwards_there_is_servfail_at_once() {
    let mute = client();
    let mut with_upstreams = settings();
    with_upstreams.upstreams = vec![mute.local_addr().unwrap()];
    let limits = Limits { forwards: 1, forward_timeout: TIMEOUT * 10, ..Limits::default() };
    let fixture = start(with_upstreams, limits);
    let client = client();
    let first = question(1, "example.org", rtype::A);
    client.send_to(&first, fixture.address).unwrap();
    // Once the upstream has the first question, there is no room for a second.
    mute.recv(&mut [0; 512]).unwrap();
    let second = question(2, "example.org", rtype::A);
    assert_eq!(rcode(&ask(&client, fixture.address, &second)), 2);
    fixture.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_not_its_own_upstream() {
    let fixture = start(settings(), Limits::default());
    let mut circular = settings();
    circular.upstreams = vec![fixture.address];
    fixture.server.reload(circular);
    let packet = question(1, "example.org", rtype::A);
    assert_eq!(rcode(&ask(&client(), fixture.address, &packet)), 5);
    fixture.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_do_not_wait_for_an_upstream_behind_them() {
    // The upstream is a listener that accepts and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut with_upstreams = settings();
    with_upstreams.upstreams = vec![mute.local_addr().unwrap()];
    let limits = Limits { forward_timeout: TIMEOUT * 10, ..Limits::default() };
    let fixture = start(with_upstreams, limits);
    let mut stream = stream(fixture.address);
    let own = framed(&question(1, "web.dunlin.internal", rtype::A));
    let other = framed(&question(2, "example.org", rtype::A));
    stream.write_all(&[own, other].concat()).unwrap();
    assert_eq!(answer_count(&read_reply(&mut stream)), 1);
    fixture.server.shutdown().await;
    drop(mute);
}

#[test]
fn a_full_cache_is_emptied() {
    let view = view_with("web", &[[10, 0, 0, 1]]);
    let mut cache = cache::AnswerCache::new(2, 1);
    let names = ["web.dunlin.internal", "web.z1.dunlin.internal", "web.any.dunlin.internal"];
    let packets = names.map(|name| question(1, name, rtype::A));
    let question = packets.each_ref().map(|packet| {
        let query = Query::parse(packet).unwrap();
        let question = cache.question(QuestionKey::of(&query));
        match resolve(&query, &question.key, &view, &settings()) {
            Resolution::Answer(answer) => cache.keep(&question, &view, answer),
            Resolution::NoSuchName | Resolution::Forward => panic!("it is a service"),
        }
        question
    });
    let found = question.each_ref().map(|question| cache.find(question, &view).is_some());
    assert_eq!(found, [false, false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_frees_the_port_and_ends_open_streams() {
    let fixture = start(settings(), Limits::default());
    let mut open = stream(fixture.address);
    open.write_all(&framed(&question(1, "web.dunlin.internal", rtype::A))).unwrap();
    read_reply(&mut open);
    fixture.server.shutdown().await;
    assert!(is_closed(&mut open));
    drop(bind(fixture.address, 2).unwrap());
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let taken = bind(([127, 0, 0, 1], 0).into(), 1).unwrap();
    let address = taken.tcp[0].local_addr().unwrap();
    let error = bind(address, 1).unwrap_err().to_string();
    assert!(error.contains(&address.to_string()), "{error}");
}
