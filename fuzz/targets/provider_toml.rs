//! A provider's file in TOML, as it lies in the services folder.
#![cfg_attr(fuzzing, no_main)]

#[path = "registrations.rs"]
mod registrations;

use std::net::IpAddr;

use dunlin_agent::providers::files;
use dunlin_core::model::{ProviderId, ProviderKind};

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|octets: &[u8]| run(octets));

pub(crate) fn run(octets: &[u8]) {
    let provider = ProviderId::new(ProviderKind::File, "web.toml").expect("a name");
    let address = IpAddr::from([127, 0, 0, 1]);
    match files::parse(provider.name(), octets, &provider, address) {
        Ok(registrations) => registrations::judge_set(&provider, registrations),
        Err(error) => assert!(!error.is_empty()),
    }
}
