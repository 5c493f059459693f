//! Names and ids: the text that shows one is read as the same name or id again.
#![cfg_attr(fuzzing, no_main)]

use std::fmt::{Debug, Display};

use dunlin_core::dns::Domain;
use dunlin_core::model::{
    CheckId, InstanceId, Label, NodeId, NodeName, ProviderId, ServiceName, StatusRange, ZoneName,
};

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|octets: &[u8]| run(octets));

pub(crate) fn run(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    same_again(text, 253, ServiceName::parse);
    same_again(text, 63, Label::parse);
    same_again(text, 63, ZoneName::parse);
    same_again(text, 63, NodeName::parse);
    same_again(text, 128, InstanceId::parse);
    same_again(text, 128, CheckId::parse);
    same_again(text, 36, NodeId::parse);
    same_again(text, 256, ProviderId::parse);
    same_again(text, 253, Domain::parse);
    same_again(text, 7, StatusRange::parse);
}

/// A value that is parsed, shown and parsed again is equal, is shown as the same text, and has at most this many octets.
fn same_again<T: Display + PartialEq + Debug, E: Debug + Display>(
    text: &str,
    most_octets: usize,
    parse: impl Fn(&str) -> Result<T, E>,
) {
    let first = match parse(text) {
        Ok(first) => first,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let shown = first.to_string();
    assert!(shown.len() <= most_octets, "{shown:?} has {} octets", shown.len());
    let second = parse(&shown).expect("what is shown can be read");
    assert_eq!((&second, second.to_string()), (&first, shown));
}
