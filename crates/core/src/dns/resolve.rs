//! Resolving a question into its answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::absent::{no_such_name, serial};
use super::answer::{Answer, Depends, Rank, Written};
use super::query::{Query, QuestionKey, Rcode};
use super::reading::{self, Reading, Zones};
use super::record::{Builder, Owner, Target};
use super::settings::DnsSettings;
use super::shuffle::Shuffler;
use super::{Transport, rtype};
use crate::catalog::{CatalogView, NodeView, Scope, ServiceView};
use crate::model::ZoneName;

/// The limit of name servers in an answer: resolvers try a few, and their addresses have to fit into a datagram.
const MAX_NAME_SERVERS: usize = 13;

/// How a question is to be answered.
#[derive(Debug)]
pub enum Resolution {
    /// The question is answered with this answer.
    Answer(Answer),
    /// The name does not exist: the answer is that of [`no_such_name`] or [`AbsentNames`](super::AbsentNames).
    NoSuchName,
    /// The name is outside the domain and there are upstreams, which are to be asked.
    Forward,
}

/// The outcome of handling a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsOutcome {
    /// The reply is written.
    Reply(Written),
    /// There is no reply to the packet.
    Silent,
    /// The upstreams are to be asked.
    Forward,
}

/// Answers one packet without a cache: parse, resolve, write.
pub fn respond(
    packet: &[u8],
    view: &CatalogView,
    settings: &DnsSettings,
    transport: Transport,
    shuffler: &mut Shuffler,
    out: &mut Vec<u8>,
) -> DnsOutcome {
    let query = match Query::parse(packet) {
        Ok(query) => query,
        Err(reject) => {
            let rcode = reject.write(packet, out);
            return rcode.map_or(DnsOutcome::Silent, |rcode| {
                DnsOutcome::Reply(Written { rcode, truncated: false })
            });
        }
    };
    let key = QuestionKey::of(&query);
    let answer = match resolve(&query, &key, view, settings) {
        Resolution::Answer(answer) => answer,
        Resolution::NoSuchName => no_such_name(&key, view, settings),
        Resolution::Forward => return DnsOutcome::Forward,
    };
    let limit = query.reply_limit(settings, transport);
    DnsOutcome::Reply(answer.write(&query, limit, shuffler, out))
}

/// Makes the answer to a question. `key` is the question's.
#[must_use]
pub fn resolve(
    query: &Query<'_>,
    key: &QuestionKey,
    view: &CatalogView,
    settings: &DnsSettings,
) -> Resolution {
    if let Some(rcode) = query.refusal() {
        return Resolution::Answer(Answer::bare(settings, rcode));
    }
    let domain = settings.domain.wire();
    let reading = reading::read(key.name(), domain, view);
    if matches!(reading, Reading::Unknown) {
        return Resolution::NoSuchName;
    }
    let inner = reading::inside(key.name(), domain).map(<[u8]>::len);
    let builder = Builder::new(settings, inner, key.as_bytes());
    let maker = Maker { view, settings, qtype: query.qtype(), inner: inner.unwrap_or(0), builder };
    // The number of questions for spelled addresses and for unusual types is unbounded. Like names that do not exist,
    // they must not evict others from a cache.
    let endless = matches!(reading, Reading::Address(_)) || !is_usual_type(query.qtype());
    if !matches!(reading, Reading::Outside) {
        let answer = maker.make(reading);
        Resolution::Answer(if endless { answer.not_kept() } else { answer })
    } else if query.wants_recursion() && !settings.upstreams.is_empty() {
        Resolution::Forward
    } else {
        Resolution::Answer(Answer::bare(settings, Rcode::Refused))
    }
}

/// Makes one answer.
struct Maker<'a> {
    view: &'a CatalogView,
    settings: &'a DnsSettings,
    qtype: u16,
    /// How many octets of the question's name stand in front of the domain.
    inner: usize,
    builder: Builder<'a>,
}

impl Maker<'_> {
    fn make(mut self, reading: Reading) -> Answer {
        if self.qtype == rtype::ANY {
            // The answer to ANY does not depend on the name's data, only on its existence.
            self.builder.answer_any();
            return self.builder.finish(Rcode::NoError, Depends::Layout);
        }
        match reading {
            Reading::Apex => self.apex(),
            Reading::Zone(zone) => {
                if self.qtype == rtype::NS {
                    self.name_servers(Some(&zone));
                }
            }
            Reading::Service { service, zones, edge } => {
                return self.service(&service, &zones, edge);
            }
            Reading::Node(node) => self.address(node.row.address.to_canonical()),
            Reading::Address(address) => self.address(address),
            Reading::Reverse(node) => return self.reverse(&node),
            // The last two have been handled before.
            Reading::Empty | Reading::Unknown | Reading::Outside => {}
        }
        self.finish(Depends::Layout)
    }

    /// A positive answer if there are records, else one without data.
    fn finish(self, depends: Depends) -> Answer {
        if self.builder.has_answers() {
            self.builder.finish(Rcode::NoError, depends)
        } else {
            self.without_data(Owner::Domain, depends)
        }
    }

    /// An answer without data for a name that exists (RFC 2308 §2.2).
    fn without_data(mut self, owner: Owner<'_>, depends: Depends) -> Answer {
        self.builder.authority_soa(owner, &self.view.topology().own_zone, serial(self.view));
        self.builder.finish(Rcode::NoError, depends)
    }

    fn apex(&mut self) {
        match self.qtype {
            rtype::SOA => {
                let own_zone = &self.view.topology().own_zone;
                self.builder.answer_soa(own_zone, serial(self.view));
            }
            rtype::NS => self.name_servers(None),
            _ => {}
        }
    }

    /// Answers with the agents that serve DNS, one of each zone in turn, so that the loss of a zone does not take all
    /// of them from a resolver. If the view has none, this agent is named, since it does answer.
    fn name_servers(&mut self, zone: Option<&ZoneName>) {
        let topology = self.view.topology();
        let mut met: BTreeMap<&ZoneName, usize> = BTreeMap::new();
        let mut servers: Vec<(usize, u16, &Arc<NodeView>)> = Vec::new();
        for node in self.view.nodes() {
            let in_scope = zone.is_none_or(|zone| node.row.zone == *zone);
            if node.is_live() && node.row.serves_dns && in_scope {
                let round = met.entry(&node.row.zone).or_insert(0);
                servers.push((*round, topology.rank(&node.row.zone), node));
                *round += 1;
            }
        }
        servers.sort_by_key(|(round, rank, _)| (*round, *rank));
        servers.truncate(MAX_NAME_SERVERS);
        for (_, _, node) in &servers {
            self.builder.answer_ns(&target_of(node));
        }
        for (_, _, node) in &servers {
            let address = node.row.address.to_canonical();
            self.builder.additional(&target_of(node), address);
        }
        let own = &topology.own_zone;
        if servers.is_empty() && zone.is_none_or(|zone| zone == own) {
            self.builder.answer_ns(&Target::Node { name: &self.settings.node, zone: own });
        }
    }

    fn address(&mut self, address: IpAddr) {
        if matches_type(address, self.qtype) {
            self.builder.answer_address(address, Rank::EQUAL);
        }
    }

    /// The name of an address is an apex of its own, since nothing above it is ours: it has an SOA and a
    /// name server, and the negative answers are under its own SOA (RFC 2308 §2).
    fn reverse(mut self, node: &NodeView) -> Answer {
        let own = &self.view.topology().own_zone;
        match self.qtype {
            rtype::PTR => self.builder.answer_ptr(&target_of(node)),
            rtype::SOA => self.builder.answer_soa(own, serial(self.view)),
            rtype::NS => {
                self.builder.answer_ns(&Target::Node { name: &self.settings.node, zone: own });
            }
            _ => return self.without_data(Owner::Question, Depends::Layout),
        }
        self.builder.finish(Rcode::NoError, Depends::Layout)
    }

    fn service(mut self, service: &ServiceView, zones: &Zones, edge: Option<ZoneName>) -> Answer {
        let scope = match zones {
            Zones::Nearest => Scope::Nearest,
            Zones::One(zone) => Scope::Zone(zone),
            Zones::Any => Scope::Any,
        };
        match self.qtype {
            rtype::A | rtype::AAAA => self.addresses(service, scope),
            rtype::SRV => self.targets(service, scope),
            rtype::TXT => self.facts(service, scope),
            _ => {}
        }
        let key = CatalogView::service_key(&service.name);
        let edge = edge.map(|label| {
            let at = self.inner - 1 - label.as_str().len();
            let at = u8::try_from(at).expect("a name has at most 255 octets");
            (at, matches!(zones, Zones::One(_)))
        });
        self.finish(Depends::Service { key, edge })
    }

    /// Answers with each address once, weighted by the sum of the instances there (RFC 2181 §5: no duplicates).
    fn addresses(&mut self, service: &ServiceView, scope: Scope<'_>) {
        let mut places: BTreeMap<IpAddr, usize> = BTreeMap::new();
        let mut addresses: Vec<(IpAddr, u16)> = Vec::new();
        for endpoint in service.answered(scope) {
            let address = endpoint.instance.address.to_canonical();
            if !matches_type(address, self.qtype) {
                continue;
            }
            let place = *places.entry(address).or_insert(addresses.len());
            match addresses.get_mut(place) {
                Some((_, weight)) => *weight = weight.saturating_add(endpoint.instance.weight),
                None => addresses.push((address, endpoint.instance.weight)),
            }
        }
        for (address, weight) in addresses {
            if self.builder.is_full() {
                break;
            }
            let rank = Rank { priority: 0, weight };
            self.builder.answer_address(address, rank);
        }
    }

    /// Answers with the targets and ports, and adds the address of every distinct target.
    fn targets(&mut self, service: &ServiceView, scope: Scope<'_>) {
        let topology = self.view.topology();
        let mut seen: BTreeSet<(Target<'_>, IpAddr, u16, u16)> = BTreeSet::new();
        let mut hosts: BTreeSet<(Target<'_>, IpAddr)> = BTreeSet::new();
        for endpoint in service.answered(scope) {
            if self.builder.is_full() {
                break;
            }
            let (target, address) = Target::of(endpoint);
            let port = endpoint.instance.port.get();
            let weight = endpoint.instance.weight;
            // Two instances on one socket address, e.g. with SO_REUSEPORT, are one record.
            if !seen.insert((target, address, port, weight)) {
                continue;
            }
            let priority = topology.rank(&endpoint.node.zone);
            self.builder.answer_srv(&target, port, Rank { priority, weight });
            hosts.insert((target, address));
        }
        for (target, address) in &hosts {
            self.builder.additional(target, *address);
        }
    }

    /// Answers with the numbers of a service's instances; if a zone is asked for, of the instances there.
    fn facts(&mut self, service: &ServiceView, scope: Scope<'_>) {
        let counted = |zone: &ZoneName| !matches!(scope, Scope::Zone(asked) if asked != zone);
        let endpoints = service.endpoints.iter();
        let (mut instances, mut healthy) = (0_usize, 0_usize);
        for endpoint in endpoints.filter(|e| counted(&e.node.zone)) {
            instances += 1;
            healthy += usize::from(endpoint.health.is_healthy());
        }
        let guarded = service.guard.is_some();
        self.builder.answer_txt(&[
            format!("instances={instances}"),
            format!("healthy={healthy}"),
            format!("guarded={guarded}"),
        ]);
    }
}

fn target_of(node: &NodeView) -> Target<'_> {
    Target::Node { name: &node.row.name, zone: &node.row.zone }
}

/// Whether programs usually ask for this type: those that are answered, and 64 to 65 (SVCB, HTTPS; RFC 9460), for which
/// browsers ask first.
fn is_usual_type(qtype: u16) -> bool {
    matches!(
        qtype,
        rtype::A
            | rtype::AAAA
            | rtype::SRV
            | rtype::TXT
            | rtype::NS
            | rtype::SOA
            | rtype::PTR
            | rtype::ANY
            | 64..=65
    )
}

fn matches_type(address: IpAddr, qtype: u16) -> bool {
    match address {
        IpAddr::V4(_) => qtype == rtype::A,
        IpAddr::V6(_) => qtype == rtype::AAAA,
    }
}
