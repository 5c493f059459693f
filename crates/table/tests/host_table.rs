//! The host table: what is written is read, and no octets whatever make the reader panic or leave its bounds.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use dunlin_table::{
    Draft, Endpoint, EndpointFlags, MAX_NAME_OCTETS, Service, ServiceDraft, ServiceFlags, Size,
    Table, TableError, WriteError, set_heartbeat, set_superseded, write,
};
use proptest::prelude::*;

type Owned = (String, Option<Ipv4Addr>, ServiceFlags, Vec<Endpoint>);

fn drafts(
    services: &[Owned],
) -> impl Iterator<Item = ServiceDraft<'_, std::iter::Copied<std::slice::Iter<'_, Endpoint>>>> {
    services.iter().map(|(name, magic, flags, endpoints)| ServiceDraft {
        name,
        magic_address: *magic,
        flags: *flags,
        endpoints: endpoints.iter().copied(),
    })
}

fn table(services: &[Owned], draft: Draft) -> Result<Vec<u8>, WriteError> {
    let size = Size::of(drafts(services))?;
    // Whatever the buffer held before must not matter.
    let mut buffer = vec![0xa5; size.octets()];
    write(&mut buffer, size, draft, drafts(services)).map(|()| buffer)
}

fn endpoint(address: &str, port: u16, weight: u16, flags: EndpointFlags) -> Endpoint {
    Endpoint { address: address.parse().unwrap(), port, weight, flags }
}

fn service(name: &str, magic: Option<[u8; 4]>, endpoints: Vec<Endpoint>) -> Owned {
    (name.to_owned(), magic.map(Ipv4Addr::from), ServiceFlags::default(), endpoints)
}

/// Three services: one with two endpoints, one without any, one that nobody on the host has asked for.
fn sample() -> Vec<Owned> {
    let near = endpoint("10.0.0.1", 8080, 100, EndpointFlags::OWN_ZONE);
    let far = endpoint("2001:db8::7", 443, 1, EndpointFlags::default());
    let mut db = service("db.prod.shop", Some([127, 64, 0, 9]), vec![near, far]);
    db.2 = ServiceFlags::GUARDED;
    let held = endpoint("192.0.2.3", 80, u16::MAX, EndpointFlags::HELD);
    [db, service("queue", Some([127, 64, 0, 2]), vec![]), service("web", None, vec![held])].into()
}

fn sample_octets() -> Vec<u8> {
    let draft = Draft { generation: 6, catalog_index: 1_000, heartbeat: 1_795_230_000_000 };
    table(&sample(), draft).unwrap()
}

fn owned(service: Service<'_>) -> Owned {
    let name = String::from_utf8(service.name.to_owned()).unwrap();
    (name, service.magic_address, service.flags, service.endpoints().collect())
}

/// Reads everything there is to read, and checks that it lies within the octets.
fn read_all(octets: &[u8], table: &Table<'_>) {
    let within = |part: &[u8]| {
        let (all, part) = (octets.as_ptr_range(), part.as_ptr_range());
        part.is_empty() || (all.start <= part.start && part.end <= all.end)
    };
    let names = ["db.prod.shop", "queue", "web", "", "nobody", "zzz"];
    let magic = [[127, 64, 0, 9], [127, 64, 0, 2], [127, 64, 0, 1], [0; 4], [255; 4]];
    let found = names.iter().filter_map(|name| table.find(name.as_bytes()));
    let by_magic = magic.iter().filter_map(|address| table.find_magic((*address).into()));
    for service in table.services().chain(found).chain(by_magic) {
        assert!(within(service.name));
        assert!(service.endpoints().count() <= table.size().endpoints);
        assert_eq!(service.endpoints().get(usize::MAX), None);
    }
    let _ = (table.generation(), table.catalog_index(), table.heartbeat(), table.is_superseded());
    let _ = table.verify();
}

#[test]
fn what_is_written_is_found_by_name_in_any_case_and_by_magic_address() {
    let octets = sample_octets();
    let table = Table::read(&octets).unwrap();
    table.verify().unwrap();
    assert_eq!(table.services().map(owned).collect::<Vec<_>>(), sample());
    for service in sample() {
        let upper = service.0.to_uppercase();
        assert_eq!(table.find(upper.as_bytes()).map(owned), Some(service.clone()));
        if let Some(address) = service.1 {
            assert_eq!(table.find_magic(address).map(owned), Some(service));
        }
    }
    for name in ["", "d", "db.prod.shop.", "queues", "zebra"] {
        assert_eq!(table.find(name.as_bytes()), None, "{name}");
    }
    assert_eq!(table.find_magic(Ipv4Addr::new(127, 64, 0, 3)), None);
    assert_eq!((table.generation(), table.catalog_index()), (6, 1_000));
    let db = table.find(b"db.prod.shop").unwrap();
    assert_eq!((db.endpoints().len(), db.endpoints().get(2)), (2, None));
    assert!(db.endpoints().get(0).unwrap().flags.contains(EndpointFlags::OWN_ZONE));
    assert!(db.flags.contains(ServiceFlags::GUARDED));
}

#[test]
fn an_empty_table_is_a_table() {
    let octets = table(&[], Draft::default()).unwrap();
    let table = Table::read(&octets).unwrap();
    table.verify().unwrap();
    assert_eq!((octets.len(), table.services().count(), table.find(b"web")), (64, 0, None));
}

#[test]
fn the_octets_of_a_small_table_stay_what_they_are() {
    let web = endpoint("10.0.0.1", 8080, 100, EndpointFlags::OWN_ZONE);
    let draft = Draft { generation: 2, catalog_index: 3, heartbeat: 4 };
    let octets = table(&[service("web", Some([127, 64, 0, 1]), vec![web])], draft).unwrap();
    let expected: [&[u8]; 9] = [
        b"DUNLINHT",
        &[1, 0, 0, 0],
        &[0x37, 0xf7, 0xf8, 0x54],
        &[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0],
        &[0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 127, 64, 0, 1],
        &[127, 64, 0, 1, 0, 0, 0, 0],
        &[
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1, 0x90, 0x1f, 100, 0, 1, 0, 0, 0,
            b'w', b'e', b'b',
        ],
    ];
    assert_eq!(octets, expected.concat());
}

#[test]
fn a_table_that_is_cut_short_or_grown_is_refused() {
    let octets = sample_octets();
    for len in 0..octets.len() {
        assert!(Table::read(&octets[..len]).is_err(), "{len} octets");
    }
    let longer = [&octets[..], &[0]].concat();
    let (expected, found) = (octets.len() as u64, longer.len());
    assert_eq!(Table::read(&longer).unwrap_err(), TableError::Length { expected, found });
}

#[test]
fn every_changed_octet_is_found_and_none_leads_out_of_the_table() {
    let octets = sample_octets();
    // What an agent changes in a table that is in use, and what is reserved beside it.
    let uncovered = 16..32;
    for at in 0..octets.len() {
        for flip in (0..8).map(|bit| 1 << bit).chain([0xff]) {
            let mut damaged = octets.clone();
            damaged[at] ^= flip;
            let Ok(table) = Table::read(&damaged) else { continue };
            read_all(&damaged, &table);
            assert_eq!(table.verify().is_ok(), uncovered.contains(&at), "octet {at} by {flip:#x}");
        }
    }
}

#[test]
fn a_table_of_another_version_or_in_the_making_is_no_table_yet() {
    let mut octets = sample_octets();
    octets[32] |= 1;
    assert_eq!(Table::read(&octets).unwrap_err(), TableError::Unfinished);
    octets[8] = 2;
    assert_eq!(Table::read(&octets).unwrap_err(), TableError::Version(2));
    octets[0] = 0;
    assert_eq!(Table::read(&octets).unwrap_err(), TableError::NotATable);
}

#[test]
fn a_life_sign_and_the_end_of_a_table_leave_it_whole() {
    let mut octets = sample_octets();
    set_heartbeat(&mut octets, 77);
    set_superseded(&mut octets);
    let table = Table::read(&octets).unwrap();
    table.verify().unwrap();
    assert_eq!((table.heartbeat(), table.is_superseded()), (77, true));
    set_heartbeat(&mut [], 77);
    set_superseded(&mut [0; 3]);
}

#[test]
fn services_that_cannot_be_found_again_are_not_written() {
    let one = |name: &str| table(&[service(name, None, vec![])], Draft::default());
    for name in ["", "Web", "wéb", &"x".repeat(MAX_NAME_OCTETS + 1)] {
        assert_eq!(one(name), Err(WriteError::Name), "{name}");
    }
    assert!(one(&"x".repeat(MAX_NAME_OCTETS)).is_ok());
    let two = |names: [&str; 2], magic: [[u8; 4]; 2]| {
        let both = [0, 1].map(|at| service(names[at], Some(magic[at]), vec![]));
        table(&both, Draft::default())
    };
    let (low, high) = ([127, 64, 0, 1], [127, 64, 0, 2]);
    assert_eq!(two(["b", "a"], [low, high]), Err(WriteError::Order));
    assert_eq!(two(["a", "a"], [low, high]), Err(WriteError::Order));
    assert_eq!(two(["a", "b"], [low, low]), Err(WriteError::MagicAddress));
    assert_eq!(two(["a", "b"], [low, [0; 4]]), Err(WriteError::MagicAddress));
    assert!(two(["a", "b"], [high, low]).is_ok());
}

#[test]
fn a_buffer_or_a_size_of_other_services_is_refused_and_leaves_no_table() {
    let (few, many) = (sample()[..2].to_vec(), sample());
    let size = Size::of(drafts(&many)).unwrap();
    let mut buffer = sample_octets();
    let (expected, found) = (size.octets(), size.octets() - 1);
    let short = write(&mut buffer[..found], size, Draft::default(), drafts(&many));
    assert_eq!(short, Err(WriteError::Buffer { expected, found }));
    let fewer = write(&mut buffer, size, Draft::default(), drafts(&few));
    assert_eq!(fewer, Err(WriteError::Changed));
    assert_eq!(Table::read(&buffer).unwrap_err(), TableError::NotATable);
    let small = Size::of(drafts(&few)).unwrap();
    let mut buffer = vec![0; small.octets()];
    let more = write(&mut buffer, small, Draft::default(), drafts(&many));
    assert_eq!(more, Err(WriteError::Changed));
    let huge = Size { endpoints: usize::MAX, ..small };
    let huge = write(&mut buffer, huge, Draft::default(), drafts(&few));
    assert_eq!(huge, Err(WriteError::TooLarge));
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let address = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(|octets| IpAddr::from(octets).to_canonical()),
    ];
    (address, any::<u16>(), any::<u16>(), any::<u16>()).prop_map(
        |(address, port, weight, flags)| Endpoint {
            address,
            port,
            weight,
            flags: EndpointFlags(flags),
        },
    )
}

proptest! {
    #[test]
    fn any_services_are_read_as_they_were_written(
        services in proptest::collection::btree_map(
            "[a-z0-9.-]{1,20}",
            (
                proptest::option::of(1_u32..),
                any::<u16>(),
                proptest::collection::vec(any_endpoint(), 0..5),
            ),
            0..20,
        ),
        generation in any::<u64>(),
    ) {
        let mut used = BTreeSet::new();
        let mut fresh = |bits: &u32| used.insert(*bits);
        let services: Vec<Owned> = BTreeMap::into_iter(services)
            .map(|(name, (magic, flags, endpoints))| {
                let magic = magic.filter(&mut fresh).map(Ipv4Addr::from);
                (name, magic, ServiceFlags(flags), endpoints)
            })
            .collect();
        let octets = table(&services, Draft { generation, ..Draft::default() }).unwrap();
        let table = Table::read(&octets).unwrap();
        prop_assert_eq!(table.verify(), Ok(()));
        prop_assert_eq!(table.services().map(owned).collect::<Vec<_>>(), services.clone());
        for service in services {
            prop_assert_eq!(table.find(service.0.as_bytes()).map(owned), Some(service.clone()));
            if let Some(address) = service.1 {
                prop_assert_eq!(table.find_magic(address).map(owned), Some(service));
            }
        }
    }

    #[test]
    fn any_octets_are_read_without_leaving_them(
        mut octets in proptest::collection::vec(any::<u8>(), 0..400),
        head in proptest::bool::weighted(0.9),
    ) {
        // Mostly with a header that fits, so that what lies behind it is looked at.
        if head && octets.len() >= 64 {
            let sample = sample_octets();
            octets.resize(sample.len(), 0x5a);
            octets[..64].copy_from_slice(&sample[..64]);
        }
        if let Ok(table) = Table::read(&octets) {
            read_all(&octets, &table);
        }
    }
}
