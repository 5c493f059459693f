//! Any octets as a DNS message: a reply is a message that answers it and is not too long.
#![cfg_attr(fuzzing, no_main)]

#[path = "answers.rs"]
mod answers;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|octets: &[u8]| run(octets));

pub(crate) fn run(octets: &[u8]) {
    answers::ask(octets);
}
