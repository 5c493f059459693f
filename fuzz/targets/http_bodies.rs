//! Bodies of the calls that write, as JSON: what is accepted keeps the promises of the model, and what is refused has a
//! reason.
#![cfg_attr(fuzzing, no_main)]

#[path = "api.rs"]
mod api;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|octets: &[u8]| run(octets));

const CALLS: [&str; 6] = [
    "PUT /api/instances/api-1",
    "PUT /api/providers/deploy",
    "PUT /api/providers/run.job",
    "PUT /api/instances/api-1/checks/ttl",
    "PUT /api/instances/api-1/maintenance",
    "PUT /api/instances/api-1/drain",
];

/// The input is one octet that chooses the call, then the body.
pub(crate) fn run(octets: &[u8]) {
    let Some((choice, body)) = octets.split_first() else { return };
    let call = CALLS[usize::from(*choice) % CALLS.len()];
    let octets = body.len();
    let head = format!(
        "{call} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {octets}\r\n\r\n"
    );
    let request = [head.as_bytes(), body].concat();
    let reply = api::send(&request, api::Then::Wait);
    assert!(!reply.is_empty(), "a whole request without an answer");
    api::judge(&reply);
    let (head, body) = split(&reply);
    if head.starts_with(b"HTTP/1.1 4") {
        let error: serde_json::Value = serde_json::from_slice(body).expect("errors are JSON");
        assert!(error["error"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
    }
}

fn split(reply: &[u8]) -> (&[u8], &[u8]) {
    let end = reply.windows(4).position(|four| four == b"\r\n\r\n").expect("a head ends");
    (&reply[..end], &reply[end + 4..])
}
