//! The host table as a preloaded program reads it, from a file that may hold anything.
#![cfg_attr(fuzzing, no_main)]

use std::net::Ipv4Addr;

use dunlin_table::{
    Draft, Endpoints, MAX_NAME_OCTETS, Service, ServiceDraft, Size, Table, WriteError, write,
};

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|octets: &[u8]| run(octets));

/// All that is read lies within the octets. In a whole table every service is found, and the table can be written again.
pub(crate) fn run(octets: &[u8]) {
    let Ok(table) = Table::read(octets) else { return };
    let is_whole = table.verify().is_ok();
    let (mut services, mut endpoints) = (0, 0);
    for service in table.services() {
        services += 1;
        endpoints = service.endpoints().len().max(endpoints);
        assert!(is_within(octets, service.name));
        assert_eq!(service.endpoints().count(), service.endpoints().len());
        let (found, asked) = (table.find(service.name), service.name.to_ascii_uppercase());
        if is_whole && asked.to_ascii_lowercase() == service.name {
            assert_eq!(found, Some(service));
            assert_eq!(table.find(&asked), Some(service));
        }
        if let Some(address) = service.magic_address {
            let _ = table.find_magic(address);
        }
    }
    assert!(services <= table.size().services && endpoints <= table.size().endpoints);
    let _ = (table.find(b"web"), table.find_magic(Ipv4Addr::new(127, 64, 0, 1)));
    if is_whole {
        write_again(&table);
    }
}

fn is_within(octets: &[u8], part: &[u8]) -> bool {
    let (all, part) = (octets.as_ptr_range(), part.as_ptr_range());
    part.is_empty() || (all.start <= part.start && part.end <= all.end)
}

/// The table that the writer makes of these services is read as the same services, or the writer returns an error.
fn write_again(table: &Table<'_>) {
    let services: Option<Vec<_>> = table.services().map(draft).collect();
    let Some(services) = services else { return };
    let size = match Size::of(services.iter().cloned()) {
        Ok(size) => size,
        Err(error) => return assert_eq!(error, WriteError::TooLarge),
    };
    if size.octets() > 1 << 20 {
        // In the input several services may share endpoints, so that a small table becomes a large one.
        return;
    }
    let mut buffer = vec![0; size.octets()];
    if write(&mut buffer, size, Draft::default(), services).is_ok() {
        let again = Table::read(&buffer).expect("the writer writes what the reader reads");
        assert_eq!(again.verify(), Ok(()));
        let what = |service: Service<'_>| {
            let Service { name, magic_address, flags, .. } = service;
            (name.to_owned(), magic_address, flags, service.endpoints().collect::<Vec<_>>())
        };
        assert!(again.services().map(what).eq(table.services().map(what)));
    }
}

fn draft<'t>(service: Service<'t>) -> Option<ServiceDraft<'t, Endpoints<'t>>> {
    let name = str::from_utf8(service.name).ok().filter(|name| name.len() <= MAX_NAME_OCTETS)?;
    let (magic_address, flags) = (service.magic_address, service.flags);
    Some(ServiceDraft { name, magic_address, flags, endpoints: service.endpoints() })
}
