//! The records of one session, ready for the model.

use tracer_ebpf::{Header, Record};
use zerocopy::{FromBytes as _, IntoBytes as _};

/// Records in the order in which the model takes them.
#[derive(Clone, Debug, Default)]
pub struct RecordList {
    /// Aligned to 8, as every record is a multiple of that.
    words: Vec<u64>,
}

impl RecordList {
    /// Appends whole records.
    pub fn extend(&mut self, bytes: &[u8]) {
        let at = self.words.len();
        self.words.resize(at + bytes.len() / 8, 0);
        let room = self.words[at..].as_mut_bytes();
        room.copy_from_slice(&bytes[..room.len()]);
    }

    /// The bytes of all of them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.words.as_bytes()
    }

    /// Each record, up to the first that this version does not know.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        split(self.bytes()).map_while(Record::decode)
    }
}

/// The bytes of each record.
pub(super) fn split(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (header, _) = Header::read_from_prefix(rest).ok()?;
        let (record, after) = rest.split_at_checked(header.size as usize)?;
        rest = after;
        (!record.is_empty()).then_some(record)
    })
}

/// Parts of whole records, each of at most `most` bytes unless it is a single record.
pub(super) fn parts(bytes: &[u8], most: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let mut end = 0;
        for record in split(rest) {
            if end > 0 && end + record.len() > most {
                break;
            }
            end += record.len();
        }
        let part;
        (part, rest) = rest.split_at(end);
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;

    #[test]
    fn parts_are_of_whole_records() {
        let size = 48;
        let mut bytes = Vec::new();
        for time in 0..10 {
            let mut header = Header::new_zeroed();
            (header.time, header.size) = (time, size);
            bytes.extend_from_slice(header.as_bytes());
            bytes.resize(bytes.len() + usize::from(size) - size_of::<Header>(), 0);
        }
        for (most, lengths) in [
            (1, vec![48; 10]),
            (100, vec![96; 5]),
            (144, vec![144, 144, 144, 48]),
            (1000, vec![480]),
        ] {
            let parts: Vec<&[u8]> = parts(&bytes, most).collect();
            let found: Vec<usize> = parts.iter().map(|part| part.len()).collect();
            assert_eq!(found, lengths, "at most {most} B");
            assert_eq!(parts.concat(), bytes);
        }
        assert_eq!(parts(&[], 100).count(), 0);
    }
}
