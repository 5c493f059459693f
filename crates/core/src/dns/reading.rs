//! The meaning of a name in the tree of names below the domain.
//!
//! A name is read from the domain leftwards: `any`, `node`, `local` and the names of zones come first, everything
//! else is a service. So a zone's name takes precedence over a service's label, and a service `web.eu1` beside a
//! zone `eu1` is reached as `web.eu1.any.D`. A name that only has other names below it (an empty non-terminal)
//! exists, without data (RFC 8020 §2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::catalog::{CatalogView, Named, NodeView, ServiceView};
use crate::model::{NodeName, ZoneName};

/// The limit of labels in front of the domain; the deepest names are `_service._tcp.job.env.product.ZONE`.
const MAX_LABELS: usize = 6;
/// The label between the digits of an address and `node`.
pub(super) const ADDRESS_LABEL: &str = "ip";
/// The label behind the name of a node.
pub(super) const NODE_LABEL: &str = "node";
const ANY_LABEL: &str = "any";
const LOCAL_LABEL: &str = "local";

/// The zones that a service's name asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Zones {
    /// `N.D` asks for the nearest zone with healthy instances.
    Nearest,
    /// `N.ZONE.D` asks for one zone.
    One(ZoneName),
    /// `N.any.D` asks for all zones.
    Any,
}

/// The meaning of a name.
#[derive(Debug, Clone)]
pub(super) enum Reading {
    /// The name is the domain itself.
    Apex,
    /// `ZONE.D` is the name of a zone.
    Zone(ZoneName),
    /// The name is that of a service that exists.
    Service {
        service: Arc<ServiceView>,
        zones: Zones,
        /// The label next to the domain, if it could become a zone's name.
        edge: Option<ZoneName>,
    },
    /// The name is that of a node that exists.
    Node(Arc<NodeView>),
    /// `HEX.ip.node.ZONE.D` spells this address.
    Address(IpAddr),
    /// The name is the reverse name of an address of this node.
    Reverse(Arc<NodeView>),
    /// The name exists because others below it do.
    Empty,
    /// The name does not exist.
    Unknown,
    /// The name is not in the domain.
    Outside,
}

/// Determines the meaning of a name in wire form and lower case.
pub(super) fn read(name: &[u8], domain: &[u8], view: &CatalogView) -> Reading {
    let Some(inner) = inside(name, domain) else {
        return read_reverse(name, view);
    };
    let mut labels = [""; MAX_LABELS];
    let Some(labels) = split(inner, &mut labels) else {
        return Reading::Unknown;
    };
    match labels.split_last() {
        None => Reading::Apex,
        Some((&ANY_LABEL, rest)) => below_zone(rest, view, Zones::Any),
        Some((&NODE_LABEL, rest)) => read_node(rest, None, view),
        Some((&LOCAL_LABEL, _)) => Reading::Unknown,
        Some((&last, rest)) => match view.zone(last) {
            Some(zone) => read_zone(zone, rest, view),
            None => read_service(labels, Zones::Nearest, Some(last), view),
        },
    }
}

fn read_zone(zone: &ZoneName, rest: &[&str], view: &CatalogView) -> Reading {
    match rest.split_last() {
        None => Reading::Zone(zone.clone()),
        Some((&NODE_LABEL, nodes)) => read_node(nodes, Some(zone), view),
        Some((&(ANY_LABEL | LOCAL_LABEL), _)) => Reading::Unknown,
        Some(_) => below_zone(rest, view, Zones::One(zone.clone())),
    }
}

fn below_zone(rest: &[&str], view: &CatalogView, zones: Zones) -> Reading {
    if rest.is_empty() {
        return Reading::Empty;
    }
    let edge = match &zones {
        Zones::One(zone) => Some(zone.clone()),
        Zones::Nearest | Zones::Any => None,
    };
    read_service(rest, zones, edge.as_ref().map(ZoneName::as_str), view)
}

fn read_node(labels: &[&str], zone: Option<&ZoneName>, view: &CatalogView) -> Reading {
    match (labels, zone) {
        ([], _) => Reading::Empty,
        ([name], _) => {
            let node = NodeName::parse(name).ok();
            let node = node.as_ref().and_then(|name| view.node(name));
            match node.filter(|node| zone.is_none_or(|zone| node.row.zone == *zone)) {
                Some(node) => Reading::Node(Arc::clone(node)),
                None if zone.is_some() && *name == ADDRESS_LABEL => Reading::Empty,
                None => Reading::Unknown,
            }
        }
        ([digits, ADDRESS_LABEL], Some(_)) => {
            address_of(digits).map_or(Reading::Unknown, Reading::Address)
        }
        _ => Reading::Unknown,
    }
}

/// The address that 8 or 32 hexadecimal digits spell. IPv4 mapped into IPv6 has its own, shorter name.
fn address_of(digits: &str) -> Option<IpAddr> {
    if !digits.bytes().all(|octet| octet.is_ascii_hexdigit()) {
        return None;
    }
    match digits.len() {
        8 => u32::from_str_radix(digits, 16).ok().map(|bits| Ipv4Addr::from_bits(bits).into()),
        32 => u128::from_str_radix(digits, 16)
            .ok()
            .map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits)))
            .filter(|address| address.to_canonical() == *address),
        _ => None,
    }
}

/// `edge` is the label next to the domain, if it could be a zone's name.
fn read_service(labels: &[&str], zones: Zones, edge: Option<&str>, view: &CatalogView) -> Reading {
    let is_protocol = |label: &str| matches!(label, "_tcp" | "_udp");
    let name = match labels {
        // RFC 2782: `_service._tcp.REST` is `service.REST`.
        [service, protocol, rest @ ..] if is_protocol(protocol) => {
            let Some(service) = service.strip_prefix('_') else {
                return Reading::Unknown;
            };
            joined(service, rest)
        }
        // `_tcp.REST` exists when some `_service._tcp.REST` does.
        [protocol, rest @ ..] if is_protocol(protocol) => {
            let exists = rest.is_empty() || view.has_services_below(&rest.join("."));
            return if exists { Reading::Empty } else { Reading::Unknown };
        }
        [first, rest @ ..] => joined(first, rest),
        [] => return Reading::Empty,
    };
    // The name is not parsed, since no service has a name that is not valid.
    match view.named(&name) {
        Named::Service(service) => {
            let edge = edge.and_then(|label| ZoneName::parse(label).ok());
            Reading::Service { service: Arc::clone(service), zones, edge }
        }
        Named::Suffix => Reading::Empty,
        Named::Nothing => Reading::Unknown,
    }
}

fn joined(first: &str, rest: &[&str]) -> String {
    let octets = first.len() + rest.iter().map(|label| 1 + label.len()).sum::<usize>();
    let mut name = String::with_capacity(octets);
    name.push_str(first);
    for label in rest {
        name.push('.');
        name.push_str(label);
    }
    name
}

/// The labels in front of the domain, or `None` for a name outside of it.
pub(super) fn inside<'a>(name: &'a [u8], domain: &[u8]) -> Option<&'a [u8]> {
    let inner = name.strip_suffix(domain)?;
    // The domain has to begin at a label. Only walking over the labels shows that, since a label may hold any octet.
    let mut at = 0;
    while at < inner.len() {
        at += 1 + usize::from(inner[at]);
    }
    (at == inner.len()).then_some(inner)
}

/// The labels of a well-formed part of a name; `None` when there are more than any name of the tree has, or when they
/// hold a character that no label of the tree does.
fn split<'a, 'b>(mut inner: &'a [u8], labels: &'b mut [&'a str]) -> Option<&'b [&'a str]> {
    let allowed = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
    let mut count = 0;
    while let Some((len, rest)) = inner.split_first() {
        let (label, rest) = rest.split_at_checked(usize::from(*len))?;
        if !label.iter().all(allowed) {
            return None;
        }
        *labels.get_mut(count)? = std::str::from_utf8(label).ok()?;
        count += 1;
        inner = rest;
    }
    labels.get(..count)
}

/// Addresses of nodes have names of their own in the reverse trees (RFC 1035 §3.5, RFC 3596 §2.5). The rest of those
/// trees is outside: like any name outside the domain it is refused or forwarded.
fn read_reverse(name: &[u8], view: &CatalogView) -> Reading {
    let address = if let Some(digits) = name.strip_suffix(b"\x07in-addr\x04arpa\x00") {
        reverse_v4(digits)
    } else if let Some(digits) = name.strip_suffix(b"\x03ip6\x04arpa\x00") {
        reverse_v6(digits)
    } else {
        None
    };
    let node = address.and_then(|address| view.node_at(address.to_canonical()));
    node.map_or(Reading::Outside, |node| Reading::Reverse(Arc::clone(node)))
}

fn reverse_v4(mut labels: &[u8]) -> Option<IpAddr> {
    let mut octets = [0; 4];
    for octet in octets.iter_mut().rev() {
        let (len, rest) = labels.split_first()?;
        let (label, rest) = rest.split_at_checked(usize::from(*len))?;
        let text = std::str::from_utf8(label).ok()?;
        let is_plain = text.len() == 1 || !text.starts_with(['0', '+']);
        *octet = text.parse().ok().filter(|_| is_plain)?;
        labels = rest;
    }
    labels.is_empty().then(|| IpAddr::from(octets))
}

fn reverse_v6(labels: &[u8]) -> Option<IpAddr> {
    if labels.len() != 64 {
        return None;
    }
    let mut bits = 0_u128;
    for (place, pair) in labels.chunks_exact(2).enumerate() {
        let nibble = char::from(pair[1]).to_digit(16).filter(|_| pair[0] == 1)?;
        bits |= u128::from(nibble) << (4 * place);
    }
    Some(Ipv6Addr::from_bits(bits).into())
}
