//! Any octets as a DNS message: what is replied is a message that answers it, and not too long.
#![cfg_attr(fuzzing, no_main)]

#[path = "answers.rs"]
mod answers;
#[path = "catalog.rs"]
mod catalog;

use std::sync::LazyLock;

use dunlin_core::catalog::CatalogView;
use dunlin_core::dns::Settings;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|octets: &[u8]| run(octets));

static KNOWN: LazyLock<(CatalogView, Settings)> =
    LazyLock::new(|| (catalog::catalog(), catalog::settings()));

pub(crate) fn run(octets: &[u8]) {
    let (view, settings) = &*KNOWN;
    answers::ask(octets, view, settings);
}
