//! The keys as one agent hands them over to another.

use dunlin_core::fields::{FieldReader, FieldWriter};

use super::KeyOffer;

/// What [`Frame::Keys`](dunlin_core::gossip::Frame::Keys) holds. It grows by the rules of [`dunlin_core::fields`];
/// an offer within it does not.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeyHandover {
    /// The sender's keys.
    pub(crate) offers: Vec<KeyOffer>,
    /// The number of the sender's next stamp.
    pub(crate) next_stamp: u64,
}

impl KeyHandover {
    /// The octets of the handover.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { offers, next_stamp } = self;
        let mut out = Vec::new();
        FieldWriter::new(&mut out, &(offers, next_stamp)).finish();
        out
    }

    /// Reads a handover. Fields that only newer versions know are passed over.
    ///
    /// # Errors
    /// When the octets are cut short or malformed.
    pub(crate) fn decode(octets: &[u8]) -> Result<Self, postcard::Error> {
        let ((offers, next_stamp), _appended) = FieldReader::new(octets)?;
        Ok(Self { offers, next_stamp })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Secret;
    use super::*;

    #[test]
    fn a_handover_of_the_first_version_is_read_and_written_with_the_same_octets() {
        let key = KeyOffer { generation: 3, secret: Secret::from_bytes([7; 32]), age_millis: 300 };
        let handover = KeyHandover { offers: vec![key], next_stamp: 5 };
        let golden = [&[1, 3][..], &[7; 32], &[0xac, 2, 5]].concat();
        assert_eq!(handover.encode(), golden);
        assert_eq!(KeyHandover::decode(&golden).unwrap(), handover);
        let newer = [&golden[..], b"appended"].concat();
        assert_eq!(KeyHandover::decode(&newer).unwrap(), handover);
    }
}
