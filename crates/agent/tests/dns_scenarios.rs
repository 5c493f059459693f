//! The scenarios of DNS answers, over real sockets: the same files that `dunlin-core` is tested with.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]

#[path = "../../core/src/dns/tests/scenario/mod.rs"]
mod scenario;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use dunlin_agent::dns::{Limits, Server, bind};
// The scenarios name these as `dunlin-core` does from within.
use dunlin_core::{catalog, dns, model, replica};
use scenario::{Answerer, World, Writes, play_all};

use crate::catalog::CatalogView;
use crate::dns::{DnsSettings, Transport};

const TIMEOUT: Duration = Duration::from_secs(30);
/// A question that is always answered, and its number.
const MARK: &[u8] =
    b"\xFF\xFE\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06dunlin\x08internal\x00\x00\x06\x00\x01";

/// The agent's server with the scenario's catalog behind it.
struct Sockets {
    server: Server,
    address: SocketAddr,
    view: Arc<ArcSwap<CatalogView>>,
    settings: DnsSettings,
    client: UdpSocket,
}

impl Sockets {
    fn show(&mut self, world: World<'_>) {
        self.view.store(Arc::new(world.view.clone()));
        if self.settings != *world.settings {
            self.settings = world.settings.clone();
            self.server.reload(self.settings.clone());
        }
    }

    fn receive(&self) -> Vec<u8> {
        let mut reply = vec![0; 65_535];
        let octets = self.client.recv(&mut reply).unwrap();
        reply.truncate(octets);
        reply
    }

    /// The mark is asked behind the packet, so that silence shows without waiting for it.
    fn ask_datagram(&self, packet: &[u8]) -> Option<Vec<u8>> {
        self.client.send(packet).unwrap();
        self.client.send(MARK).unwrap();
        let reply = self.receive();
        if reply[..2] == MARK[..2] {
            return None;
        }
        assert_eq!(self.receive()[..2], MARK[..2]);
        Some(reply)
    }

    fn stream(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }
}

impl Answerer for Sockets {
    fn ask(&mut self, world: World<'_>, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        self.show(world);
        match transport {
            Transport::Udp => self.ask_datagram(packet),
            Transport::Tcp => {
                let mut stream = self.stream();
                stream.write_all(&framed(packet)).unwrap();
                read_message(&mut stream)
            }
        }
    }

    fn ask_stream(
        &mut self,
        world: World<'_>,
        packets: &[Vec<u8>],
        writes: Writes,
    ) -> Vec<Vec<u8>> {
        self.show(world);
        let mut stream = self.stream();
        let octets: Vec<u8> = packets.iter().flat_map(|packet| framed(packet)).collect();
        match writes {
            Writes::Together => stream.write_all(&octets).unwrap(),
            Writes::Octets => octets.iter().for_each(|octet| stream.write_all(&[*octet]).unwrap()),
        }
        packets.iter().map(|_| read_message(&mut stream).unwrap()).collect()
    }
}

fn framed(packet: &[u8]) -> Vec<u8> {
    let length = u16::try_from(packet.len()).unwrap();
    [&length.to_be_bytes(), packet].concat()
}

/// The next message, `None` at the stream's end.
fn read_message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    match stream.read_exact(&mut length) {
        Ok(()) => {}
        // Closed with our octets unread, or read.
        Err(e) if matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
            return None;
        }
        Err(error) => panic!("{error}"),
    }
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    Some(message)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_over_sockets_are_as_the_scenarios_say() {
    let listeners = bind(([127, 0, 0, 1], 0).into(), 2).unwrap();
    let own_zone = model::ZoneName::parse("eu1").unwrap();
    let empty = catalog::Topology { own_zone, nearest_zones: vec![] };
    let view = Arc::new(ArcSwap::from_pointee(CatalogView::empty(empty, 0)));
    let domain = dns::Domain::parse("dunlin.internal").unwrap();
    let settings = DnsSettings::new(domain, model::NodeName::parse("alpha").unwrap());
    let (limits, shown) = (Limits::default(), Arc::clone(&view));
    let server = Server::start(listeners, settings.clone(), limits, shown).unwrap();
    let address = server.local_addr().unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(address).unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut sockets = Sockets { server, address, view, settings, client };
    let sockets = tokio::task::spawn_blocking(move || {
        play_all(&mut sockets);
        sockets
    });
    sockets.await.unwrap().server.shutdown().await;
}
