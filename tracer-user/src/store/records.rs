//! The records of one session: what is between its first and its last, ready for the model.

use tracer_ebpf::{Header, Record};
use zerocopy::{FromBytes as _, IntoBytes as _};

/// Records one after the other, as they were on the road.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// Aligned to 8, as every record is a multiple of that.
    words: Vec<u64>,
}

impl Records {
    /// Appends records.
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

    /// Each of them, up to the first that this version does not know.
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
