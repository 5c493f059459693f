//! Versions of one value that append fields understand each other.

use proptest::prelude::*;

use super::*;

/// A value of the newest version: each version after the first appended a field.
#[derive(Debug, Clone, PartialEq, Default)]
struct Value {
    name: String,
    number: u32,
    priority: u16,
    note: Option<String>,
    tags: Vec<u8>,
}

/// How many fields the newest version has appended.
const NEWEST: usize = 3;

/// Writes a value as the version does that knows the first `known` appended fields.
fn write(value: &Value, known: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = FieldWriter::new(&mut out, &(&value.name, value.number));
    if known > 0 {
        writer = writer.appended(&value.priority);
    }
    if known > 1 {
        writer = writer.appended(&value.note);
    }
    if known > 2 {
        writer = writer.appended(&value.tags);
    }
    writer.finish();
    out
}

/// Reads a value as the version does that knows the first `known` appended fields, with what that one does not know.
fn read(octets: &[u8], known: usize) -> Result<(Value, &[u8]), postcard::Error> {
    let ((name, number), mut reader) = FieldReader::new(octets)?;
    let mut value = Value { name, number, ..Value::default() };
    if known > 0 {
        value.priority = reader.appended()?;
    }
    if known > 1 {
        value.note = reader.appended()?;
    }
    if known > 2 {
        value.tags = reader.appended()?;
    }
    Ok((value, reader.rest()))
}

fn value() -> Value {
    Value { name: "web".to_owned(), number: 300, ..Value::default() }
}

/// What the first version writes for [`value`].
const OLD: &[u8] = b"\x03web\xac\x02";

#[test]
fn old_octets_give_defaults_and_defaults_give_the_old_octets() {
    for known in 0..=NEWEST {
        assert_eq!(write(&value(), known), OLD, "{known} appended fields");
        assert_eq!(read(OLD, known), Ok((value(), &[][..])), "{known} appended fields");
    }
}

#[test]
fn fields_are_written_up_to_the_last_one_that_differs_from_its_default() {
    let priority = Value { priority: 7, ..value() };
    assert_eq!(write(&priority, NEWEST), [OLD, b"\x07"].concat());
    let tags = Value { tags: vec![9], ..value() };
    assert_eq!(write(&tags, NEWEST), [OLD, b"\x00\x00\x01\x09"].concat());
}

#[test]
fn defaults_that_are_written_out_are_kept_as_they_came() {
    let octets = [OLD, b"\x00"].concat();
    let read = read(&octets, NEWEST);
    assert_eq!(read, Ok((value(), &b"\x00"[..])), "no version of ours writes this");
}

#[test]
fn a_field_that_is_cut_short_is_an_error() {
    let octets = write(&Value { note: Some("slow".to_owned()), ..value() }, NEWEST);
    for end in OLD.len() + 2..octets.len() {
        assert!(read(&octets[..end], NEWEST).is_err(), "cut at {end}");
    }
}

#[test]
fn a_field_in_more_octets_than_it_needs_is_an_error() {
    assert_eq!(read(&[OLD, b"\x07"].concat(), NEWEST).unwrap().0.priority, 7);
    let padded = [OLD, b"\x87\x00"].concat();
    assert_eq!(read(&padded, NEWEST), Err(postcard::Error::DeserializeBadEncoding));
}

/// The reason for this module.
#[test]
fn serde_default_does_not_read_octets_of_an_older_version() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Grown {
        name: String,
        number: u32,
        #[serde(default)]
        priority: u16,
    }
    assert_eq!(postcard::from_bytes::<Grown>(OLD), Err(postcard::Error::DeserializeUnexpectedEnd));
    let named = serde_json::from_str::<Grown>(r#"{"name":"web","number":300}"#).unwrap();
    assert_eq!(named, Grown { name: "web".to_owned(), number: 300, priority: 0 });
}

fn any_value() -> impl Strategy<Value = Value> {
    let note = prop::option::of("[a-z]{0,3}");
    let tags = prop::collection::vec(any::<u8>(), 0..3);
    let fields = ("[a-z]{0,3}", any::<u32>(), prop_oneof![Just(0), any::<u16>()], note, tags);
    fields.prop_map(|(name, number, priority, note, tags)| Value {
        name,
        number,
        priority,
        note,
        tags,
    })
}

proptest! {
    #[test]
    fn every_version_passes_on_what_another_one_wrote(
        value in any_value(),
        writer in 0..=NEWEST,
        reader in 0..=NEWEST,
        tail in prop::collection::vec(any::<u8>(), 0..9),
    ) {
        let written = write(&value, writer);
        let (known, rest) = read(&written, reader).unwrap();
        prop_assert_eq!([write(&known, reader), rest.to_vec()].concat(), &written[..]);
        if writer <= reader {
            prop_assert!(rest.is_empty());
        }
        // Versions after the newest one append what none of these versions knows, and write every field in front of it.
        let full = [write(&Value { tags: vec![1], ..value }, NEWEST), tail].concat();
        let (known, rest) = read(&full, reader).unwrap();
        prop_assert_eq!([write(&known, reader), rest.to_vec()].concat(), full);
    }

    #[test]
    fn any_octets_that_can_be_read_are_passed_on_with_their_rest(
        mut tail in prop::collection::vec(prop_oneof![3 => 0_u8..4, 1 => any::<u8>()], 0..9),
        known in 0..=NEWEST,
    ) {
        tail.splice(0..0, OLD.iter().copied());
        if let Ok((value, rest)) = read(&tail, known) {
            prop_assert_eq!([write(&value, known), rest.to_vec()].concat(), tail);
        }
    }
}
