//! Any name below the domain, of any type: it has an answer, its case does not matter, and below a name that does not
//! exist no name exists (RFC 8020).
#![cfg_attr(fuzzing, no_main)]

#[path = "answers.rs"]
mod answers;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|octets: &[u8]| run(octets));

const NXDOMAIN: u8 = 3;

/// Two octets of type, then labels divided by dots.
pub(crate) fn run(octets: &[u8]) {
    let Some((qtype, name)) = octets.split_first_chunk::<2>() else { return };
    let labels: Vec<&[u8]> = name.split(|octet| *octet == b'.').filter(|l| !l.is_empty()).collect();
    let is_long = labels.iter().any(|label| label.len() > 63) || name.len() > 200;
    // These types are left out: OPT is no type of questions, and transfers are refused for any name.
    if is_long || matches!(u16::from_be_bytes(*qtype), 41 | 251 | 252) {
        return;
    }
    let mut code_above = 0;
    for depth in 0..=labels.len() {
        let name = &labels[labels.len() - depth..];
        let code = ask(name, *qtype);
        let swapped: Vec<Vec<u8>> = name.iter().map(|label| swap_case(label)).collect();
        let swapped: Vec<&[u8]> = swapped.iter().map(Vec::as_slice).collect();
        assert_eq!(code, ask(&swapped, *qtype), "the same in another case");
        assert!(code == 0 || code == NXDOMAIN, "code {code} within the domain");
        assert!(code_above != NXDOMAIN || code == NXDOMAIN, "a name below one that does not exist");
        code_above = code;
    }
}

fn ask(labels: &[&[u8]], qtype: [u8; 2]) -> u8 {
    let mut packet = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in labels {
        packet.push(label.len() as u8);
        packet.extend_from_slice(label);
    }
    packet.extend_from_slice(answers::domain().wire());
    packet.extend_from_slice(&qtype);
    packet.extend_from_slice(&[0, 1]);
    answers::ask(&packet).expect("a question has an answer")
}

fn swap_case(label: &[u8]) -> Vec<u8> {
    let swap = |octet: &u8| if octet.is_ascii_alphabetic() { octet ^ 0x20 } else { *octet };
    label.iter().map(swap).collect()
}
