//! Questions for a service, and a reader of as much of their replies as the oracle needs.

use std::net::Ipv4Addr;

use dunlin_bench::rig::questions::{A, HEADER_OCTETS, Questions, SRV};

/// The octets that fit into a datagram on any network.
const PAYLOAD: u16 = 1232;
/// No name has more labels.
const MAX_LABELS: usize = 128;

/// What a reply says.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// Addresses, with their ports where the reply holds them.
    Instances(Vec<(Ipv4Addr, Option<u16>)>),
    /// The answer does not fit into the reply.
    Cut,
    /// A code other than those of an answer and of a name that does not exist.
    Error(u8),
}

/// A question for records of a kind.
pub(super) fn question(id: u16, service: &str, kind: u16) -> Vec<u8> {
    let mut packet =
        Questions::of_kind(&format!("{service}.dunlin.internal"), kind, PAYLOAD).packet(0).to_vec();
    packet[..2].copy_from_slice(&id.to_be_bytes());
    packet
}

/// Reads a reply to a question of [`question`]; none if its octets end too early.
pub(super) fn read(packet: &[u8]) -> Option<Found> {
    let header: &[u8; HEADER_OCTETS] = packet.first_chunk()?;
    let code = header[3] & 15;
    if header[2] & 0x80 == 0 || !matches!(code, 0 | 3) {
        return Some(Found::Error(code));
    }
    if header[2] & 2 != 0 {
        return Some(Found::Cut);
    }
    let mut at = skip_name(packet, HEADER_OCTETS)? + 4;
    let mut found = Vec::new();
    for _ in 0..u16::from_be_bytes([header[6], header[7]]) {
        at = skip_name(packet, at)?;
        let fixed: &[u8; 10] = packet.get(at..)?.first_chunk()?;
        let kind = u16::from_be_bytes([fixed[0], fixed[1]]);
        let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        let data = packet.get(at + 10..at + 10 + length)?;
        if kind == A {
            found.push((Ipv4Addr::from(*data.first_chunk::<4>()?), None));
        } else if kind == SRV {
            let port = u16::from_be_bytes([*data.get(4)?, *data.get(5)?]);
            found.push((target(&data[6..])?, Some(port)));
        }
        at += 10 + length;
    }
    Some(Found::Instances(found))
}

/// The address that the first label of a target spells.
fn target(name: &[u8]) -> Option<Ipv4Addr> {
    let label = name.get(1..1 + usize::from(*name.first()?))?;
    let label = std::str::from_utf8(label).ok()?;
    u32::from_str_radix(label, 16).ok().map(Ipv4Addr::from)
}

/// Where a name ends.
fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    for _ in 0..MAX_LABELS {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(kind: u16, data: &[u8]) -> Vec<u8> {
        let mut packet = question(7, "web", kind);
        // Without the OPT record; a reply with one answer.
        packet.truncate(packet.len() - 11);
        packet[2] |= 0x80;
        packet[7] = 1;
        packet[11] = 0;
        packet.extend([0xc0, 12]);
        packet.extend(kind.to_be_bytes());
        packet.extend([0, 1, 0, 0, 0, 1, 0, data.len() as u8]);
        packet.extend(data);
        packet
    }

    #[test]
    fn addresses_and_targets_are_read() {
        let address = Ipv4Addr::new(127, 16, 1, 2);
        let found = read(&reply(A, &address.octets()));
        assert_eq!(found, Some(Found::Instances(vec![(address, None)])));
        let target = b"\0\0\0\x64\x1b\x58\x087f100102\x02ip\0";
        let found = read(&reply(SRV, target));
        assert_eq!(found, Some(Found::Instances(vec![(address, Some(7000))])));
    }

    #[test]
    fn replies_that_are_cut_or_wrong_are_told_apart() {
        let mut packet = reply(A, &[127, 0, 0, 1]);
        assert_eq!(read(&packet[..packet.len() - 1]), None);
        packet[3] = 3;
        packet[7] = 0;
        assert_eq!(read(&packet), Some(Found::Instances(Vec::new())));
        packet[3] = 2;
        assert_eq!(read(&packet), Some(Found::Error(2)));
        packet[3] = 0;
        packet[2] |= 2;
        assert_eq!(read(&packet), Some(Found::Cut));
    }
}
