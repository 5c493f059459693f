//! Any octets on the local socket: HTTP/1.1 or HTTP/2, whole requests or parts of them.
#![cfg_attr(fuzzing, no_main)]

#[path = "api.rs"]
mod api;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|octets: &[u8]| run(octets));

pub(crate) fn run(octets: &[u8]) {
    api::judge(&api::send(octets, api::Then::Close));
}
