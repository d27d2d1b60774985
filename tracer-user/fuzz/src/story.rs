//! Bytes as a story in records, and records as bytes.
//!
//! A chapter is a kind, a time and the fields that matter. Names are few (sessions, processes,
//! objects, connections), so that records concern each other; sums and times are short where they
//! are small. Every sequence of bytes is a story: where bytes are missing, they are 0.

mod fields;
mod pen;

use tracer_ebpf::{Header, Kind, Proc, Record, session_id};
use zerocopy::IntoBytes;

use self::pen::{Read, Write};

/// Most records of one story: enough to pass every bound of a session.
const MAX_RECORDS: usize = 8192;
/// When a story begins, ns of `CLOCK_BOOTTIME`.
const BEGINS: u64 = 10_000_000_000;

/// The bytes of a record, aligned to 8.
#[derive(Clone, Debug)]
pub struct Bytes {
    words: Vec<u64>,
    kind: Kind,
}

impl Bytes {
    fn new(kind: Kind) -> Self {
        Self {
            words: vec![0; kind.size() / 8],
            kind,
        }
    }

    fn set_time(&mut self, time: u64) {
        let header = Header {
            time,
            kind: self.kind as u16,
            // A record has far less than 64 KiB.
            size: self.kind.size() as u16,
            cpu: 0,
        };
        self.words.as_mut_bytes()[..size_of::<Header>()].copy_from_slice(header.as_bytes());
    }

    /// The record.
    ///
    /// # Panics
    /// Never, unless decoding fails on what is a record.
    pub fn record(&self) -> Record<'_> {
        Record::decode(self.words.as_bytes()).expect("what was made as a record is one")
    }
}

/// A record that comes without being told.
pub fn record(kind: Kind, time: u64) -> Bytes {
    let mut bytes = Bytes::new(kind);
    bytes.set_time(time);
    bytes
}

/// Tells the story that `input` is, record by record.
pub fn tell(input: &[u8], mut listen: impl FnMut(&Bytes)) {
    let mut pen = Read::new(input, BEGINS);
    let mut left = MAX_RECORDS;
    while left > 0
        && let Some(chapter) = pen.next()
    {
        let (number, many) = (chapter % 32, chapter / 32);
        let kind = kind(number).unwrap_or(Kind::Tick);
        let time = pen.passes();
        let mut bytes = Bytes::new(kind);
        fields::walk(&mut pen, kind, bytes.words.as_mut_bytes());
        bytes.set_time(time);
        // Most chapters are one record; some are the beginnings of a flood.
        let (times, how) = match many {
            7 => (pen.power(), fields::Next::of(pen.next())),
            _ => (1, fields::Next::Session),
        };
        for _ in 0..times.min(left) {
            listen(&bytes);
            left -= 1;
            fields::next(how, kind, bytes.words.as_mut_bytes());
        }
    }
}

/// Appends the chapter that tells `record`, nearly: numbers of sessions, processes and so on become
/// others, longer times are rounded.
pub struct Author {
    pen: Write,
}

impl Author {
    /// An author of a new story.
    #[must_use]
    pub fn new() -> Self {
        Self {
            pen: Write::new(BEGINS),
        }
    }

    /// Writes the next chapter.
    pub fn write(&mut self, record: &Record<'_>, bytes: &[u8]) {
        let header = record.header();
        let numbered = |number| Some((number, kind(number)?));
        let Some((number, kind)) = (0..32)
            .filter_map(numbered)
            .find(|(_, kind)| *kind as u16 == header.kind)
        else {
            return;
        };
        self.pen.put(number);
        self.pen.comes_to(header.time);
        let mut copy = Bytes::new(kind);
        copy.words.as_mut_bytes().copy_from_slice(bytes);
        fields::walk(&mut self.pen, kind, copy.words.as_mut_bytes());
    }

    /// The story.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.pen.finish()
    }
}

impl Default for Author {
    fn default() -> Self {
        Self::new()
    }
}

/// The kind of this number below 32: the kernel side's, then those of user space. So that a new kind
/// makes no other story of one that is kept.
const fn kind(number: u8) -> Option<Kind> {
    Kind::of(match number {
        0..16 => number as u16,
        _ => number as u16 + 16,
    })
}

/// The process of this number. Sessions are known by their leaders.
fn process(number: u8) -> Proc {
    let pid = 1000 + u32::from(number);
    Proc {
        start: BEGINS / 2 + u64::from(number) * 1_000_000,
        pid,
        pad: 0,
    }
}

/// The session that a process leads.
fn session(number: u8) -> u64 {
    session_id(process(number))
}
