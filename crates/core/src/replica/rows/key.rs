//! The parts of keys as octets, and their order.

use serde::de::DeserializeOwned;

use super::RowProblem;
use crate::model::{CheckId, InstanceId};

/// A part of a key behind the octet of its kind.
pub(in crate::replica) trait KeyPart: DeserializeOwned {
    /// What this part is compared by. It has the order of the part's octets.
    type Place<'a>: Ord
    where
        Self: 'a;

    /// What this part of a key is compared by.
    fn place(&self) -> Self::Place<'_>;

    /// Appends the part in postcard's form.
    fn encode(&self, out: &mut Vec<u8>);

    /// About how many octets the part has.
    fn approx_octets(&self) -> usize;

    /// Reads the part, and returns the octets behind it.
    fn decode(octets: &[u8]) -> Result<(Self, &[u8]), RowProblem> {
        Ok(postcard::take_from_bytes(octets)?)
    }
}

/// A text in the order of its octets with the length in front, which holds for texts of up to 255 octets: the length of
/// longer ones would no longer grow with the octets in which postcard writes it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::replica) struct ByLength<'a> {
    length: usize,
    text: &'a str,
}

impl<'a> From<&'a str> for ByLength<'a> {
    fn from(text: &'a str) -> Self {
        Self { length: text.len(), text }
    }
}

macro_rules! text_parts {
    ($($Id:ty),+) => {$(
        impl KeyPart for $Id {
            type Place<'a> = ByLength<'a>;

            fn place(&self) -> ByLength<'_> {
                self.as_str().into()
            }

            fn encode(&self, out: &mut Vec<u8>) {
                put_number(out, self.as_str().len() as u64);
                out.extend_from_slice(self.as_str().as_bytes());
            }

            fn approx_octets(&self) -> usize {
                self.as_str().len() + 1
            }
        }
    )+};
}

text_parts!(InstanceId, CheckId);

/// Base-128, least significant first, as postcard writes numbers.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends something with its length in front, without a buffer of its own unless there are 128 octets or more.
pub(super) fn put_with_length(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.push(0);
    put(out);
    let octets = out.len() - at - 1;
    if octets < 0x80 {
        out[at] = octets as u8;
        return;
    }
    let mut length = Vec::new();
    put_number(&mut length, octets as u64);
    out.splice(at..=at, length);
}
