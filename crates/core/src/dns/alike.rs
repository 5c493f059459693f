//! Compression of records that differ in one stretch: the first record is kept whole, and of each record the stretch.
//!
//! The addresses of a service differ in their last octets, its SRV records in a port or the host's label. A cache of
//! many answers is larger than a processor's caches, so most of the cost of an answer is reading it from memory, and
//! compressed records are shorter to read. Where this saves too little, records are kept as they are.

/// Records are kept whole unless compression saves this many octets, which is what a processor reads at a time.
const MIN_SAVED: usize = 64;

/// The layout of some kept records of one length: the first record, then of each record, the first included, the stretch
/// that differs. If the stretch is the whole record, the first record is not kept a second time in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Alike {
    /// The length of each record in octets.
    len: u16,
    /// The offset of the stretch within a record.
    at: u8,
    /// The length of the stretch in octets.
    differing: u8,
}

impl Alike {
    /// The layout for these records, if they are of one length and differ in few octets.
    pub(super) fn of<'a>(mut records: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let Some(first) = records.next() else {
            return Some(Self { len: 0, at: 0, differing: 0 });
        };
        let (mut before, mut after) = (usize::from(u8::MAX).min(first.len()), first.len());
        let mut count = 1;
        for record in records {
            if record.len() != first.len() {
                return None;
            }
            before = before.min(same(first.iter().zip(record)));
            after = after.min(same(first.iter().rev().zip(record.iter().rev())));
            count += 1;
        }
        // Identical records are the same from both ends, so the two lengths overlap.
        let mut differing = first.len().saturating_sub(before + after);
        let (whole, packed) = (count * first.len(), first.len() + count * differing);
        if whole < packed + MIN_SAVED && first.len() <= u8::MAX.into() {
            (before, differing) = (0, first.len());
        }
        Some(Self {
            len: first.len().try_into().ok()?,
            at: before.try_into().ok()?,
            differing: differing.try_into().ok()?,
        })
    }

    /// Appends the records in this layout.
    pub(super) fn keep<'a>(self, records: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
        for (number, record) in records.enumerate() {
            if number == 0 {
                out.extend_from_slice(&record[..self.before_stretches()]);
            }
            out.extend_from_slice(&record[usize::from(self.at)..][..usize::from(self.differing)]);
        }
    }

    /// The octets in front of the stretches: one record, or none if the stretches are whole records.
    fn before_stretches(self) -> usize {
        if u16::from(self.differing) == self.len { 0 } else { self.len.into() }
    }

    /// The octets that this number of records has when written.
    pub(super) fn octets(self, records: usize) -> usize {
        records * usize::from(self.len)
    }

    /// The number of records that fit into this room.
    pub(super) fn fitting(self, room: usize) -> usize {
        room / usize::from(self.len).max(1)
    }

    /// Writes some of the kept records, given by their numbers.
    pub(super) fn write(
        self,
        kept: &[u8],
        numbers: impl ExactSizeIterator<Item = usize>,
        out: &mut Vec<u8>,
    ) {
        let (at, differing) = (usize::from(self.at), usize::from(self.differing));
        let (first, stretches) = kept.split_at(self.before_stretches());
        out.reserve(self.octets(numbers.len()));
        for number in numbers {
            let start = out.len();
            let stretch = &stretches[number * differing..][..differing];
            if first.is_empty() {
                out.extend_from_slice(stretch);
            } else {
                out.extend_from_slice(first);
                out[start + at..][..differing].copy_from_slice(stretch);
            }
        }
    }
}

/// The number of equal pairs in front of the first that differs.
fn same<'a>(pairs: impl Iterator<Item = (&'a u8, &'a u8)>) -> usize {
    pairs.take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keeps records, then writes all of them. Returns how many octets were kept, and what was written.
    fn through(records: &[&[u8]]) -> Option<(usize, Vec<u8>)> {
        let alike = Alike::of(records.iter().copied())?;
        let (mut kept, mut out) = (Vec::new(), Vec::new());
        alike.keep(records.iter().copied(), &mut kept);
        alike.write(&kept, 0..records.len(), &mut out);
        assert_eq!(alike.octets(records.len()), out.len());
        Some((kept.len(), out))
    }

    #[test]
    fn only_what_differs_is_kept_of_all() {
        let records: Vec<String> =
            (1..=3).map(|n| format!("{n}.the-front-of-the-web.api.prod.shop.dunlin")).collect();
        let records: Vec<&[u8]> = records.iter().map(String::as_bytes).collect();
        let len = records[0].len();
        assert_eq!(through(&records), Some((len + 3, records.concat())));
        let twice = [[8; 70].as_slice(); 2];
        assert_eq!(through(&twice), Some((70, twice.concat())));
    }

    #[test]
    fn records_are_whole_where_little_would_be_saved() {
        let records: [&[u8]; 3] = [b"abc-1-xyz", b"abc-2-xyz", b"abc-3-xyz"];
        assert_eq!(through(&records), Some((27, records.concat())));
        assert_eq!(through(&records[..1]), Some((9, records[0].to_vec())));
        assert_eq!(through(&[]), Some((0, vec![])));
        let long = [[7; 300].as_slice()];
        assert_eq!(through(&long), Some((300, long.concat())));
    }

    #[test]
    fn records_of_several_lengths_are_not_taken() {
        assert_eq!(through(&[b"aab", b"aaab"]), None);
    }

    #[test]
    fn long_records_that_differ_late_or_much_are_taken_or_not() {
        let [mut a, b] = [vec![7; 300], vec![7; 300]];
        a[290] = 8;
        assert_eq!(through(&[&a, &b]).unwrap().1, [a.clone(), b.clone()].concat());
        a[0] = 8;
        assert_eq!(through(&[&a, &b]), None, "291 octets differ");
    }

    proptest! {
        #[test]
        fn what_is_kept_is_written(
            (len, records) in (1_usize..80).prop_flat_map(|len| {
                (Just(len), prop::collection::vec(prop::collection::vec(0_u8..3, len), 0..8))
            })
        ) {
            let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
            let (kept, written) = through(&records).unwrap();
            prop_assert_eq!(written, records.concat());
            let differs = |at: &usize| records.iter().any(|record| record[*at] != records[0][*at]);
            let first = (0..len).find(differs);
            let stretch = first.map_or(0, |first| (first..len).rfind(differs).unwrap() + 1 - first);
            let (whole, packed) = (records.len() * len, len + records.len() * stretch);
            prop_assert_eq!(kept, if whole < packed + MIN_SAVED { whole } else { packed });
        }
    }
}
