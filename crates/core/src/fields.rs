//! The fields of a value as octets, and how later versions of Dunlin append further ones.
//!
//! The octets are those of [postcard](https://postcard.jamesmunns.com/wire-format), which describes nothing: a reader
//! has to know which fields there are. Agents of several versions exchange values, and each agent reads what an older
//! one stored, so that fields cannot simply be added to a struct that postcard writes. In particular
//! `#[serde(default)]` does not help: it takes effect when a format names its fields and one is missing, and where
//! postcard's octets end it reports an error instead.
//!
//! A value that may grow is therefore written by a [`FieldWriter`] and read by a [`FieldReader`], both in the order in
//! which the fields were introduced:
//! - The fields of the first version come first and never change: none is added, removed, moved or given another type.
//! - Each later field is appended. While it and all fields behind it have their default, they are left out.
//! - A reader gives the default to every field in front of which the octets end.
//! - Octets behind the fields that a reader knows are its [rest](FieldReader::rest). Whoever passes the value on
//!   writes them behind what [`FieldWriter`] writes.
//!
//! What always holds: octets of an older version give defaults, a value with defaults gives the octets of the older
//! version (and so the same digest), and octets of a newer version are written again as they were read. The last point
//! holds also for a rest that begins with fields that are known and have their default: the rest begins behind the
//! last field that differs from its default, since that is where the writer stops.
//!
//! The default of a field is that of its type. A field that needs another one takes a type of its own, or an `Option`
//! whose `None` stands for it. Appended fields are not removed either; a field of no more use stays at its default.

use serde::{Deserialize, Serialize};

/// Writes the fields of one value.
#[derive(Debug)]
#[must_use = "fields that have their default are left out by `finish`"]
pub struct FieldWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Where the last field ends that has to be written.
    end: usize,
}

impl<'a> FieldWriter<'a> {
    /// Appends the fields of the first version, as a tuple or a struct, to `out`.
    pub fn new(out: &'a mut Vec<u8>, first: &impl Serialize) -> Self {
        append(first, out);
        let end = out.len();
        Self { out, end }
    }

    /// Appends a later field. Fields are appended in the order in which they were introduced.
    pub fn appended<T: Serialize + Default + PartialEq>(self, field: &T) -> Self {
        let Self { out, mut end } = self;
        append(field, out);
        if *field != T::default() {
            end = out.len();
        }
        Self { out, end }
    }

    /// Takes the fields away that are left out because nothing but defaults follows.
    pub fn finish(self) {
        self.out.truncate(self.end);
    }
}

/// Reads the fields of one value.
#[derive(Debug)]
pub struct FieldReader<'a> {
    /// What has not been read.
    octets: &'a [u8],
    /// What follows the last field that differs from its default.
    rest: &'a [u8],
}

impl<'a> FieldReader<'a> {
    /// Reads the fields of the first version, as a tuple or a struct.
    ///
    /// # Errors
    /// When the octets are cut short or malformed.
    pub fn new<T: Deserialize<'a>>(octets: &'a [u8]) -> Result<(T, Self), postcard::Error> {
        let (first, octets) = postcard::take_from_bytes(octets)?;
        Ok((first, Self { octets, rest: octets }))
    }

    /// Reads a later field, in the order of [`FieldWriter::appended`]. It has its default if the octets have ended.
    ///
    /// # Errors
    /// When the octets end within the field, or are not those that the field is written as.
    pub fn appended<T>(&mut self) -> Result<T, postcard::Error>
    where
        T: Deserialize<'a> + Serialize + Default + PartialEq,
    {
        if self.octets.is_empty() {
            return Ok(T::default());
        }
        let (field, rest) = postcard::take_from_bytes(self.octets)?;
        if field != T::default() {
            let octets = &self.octets[..self.octets.len() - rest.len()];
            if !is_written_as(&field, octets) {
                return Err(postcard::Error::DeserializeBadEncoding);
            }
            self.rest = rest;
        }
        self.octets = rest;
        Ok(field)
    }

    /// The octets that [`FieldWriter`] would not write for the fields that were read: those of fields that only newer
    /// versions know.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// Appends a value in postcard's form.
pub(crate) fn append(value: &impl Serialize, out: &mut Vec<u8>) {
    *out = postcard::to_extend(value, std::mem::take(out))
        .expect("a vector takes any length, and no value here holds what postcard lacks");
}

/// Whether a value has exactly these octets: postcard reads some numbers that it would write in fewer octets. If that
/// field were taken, older versions would pass on other octets of it than newer ones.
fn is_written_as(value: &impl Serialize, octets: &[u8]) -> bool {
    let compared = postcard::to_extend(value, Comparison { expected: octets, is_equal: true });
    compared.is_ok_and(|compared| compared.is_equal && compared.expected.is_empty())
}

/// Takes octets and compares them with expected ones.
struct Comparison<'a> {
    /// The octets that have not been compared.
    expected: &'a [u8],
    is_equal: bool,
}

impl Extend<u8> for Comparison<'_> {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, octets: I) {
        for octet in octets {
            self.is_equal &= self.expected.split_off_first() == Some(&octet);
        }
    }
}

#[cfg(test)]
mod tests;
