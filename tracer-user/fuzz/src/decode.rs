//! Arbitrary bytes as a record, and as a recording.

use lastbyte::store::recording::{Error, FORMAT_VERSION, Reader, Writer};
use tracer_ebpf::{ABI_VERSION, Record};
use zerocopy::IntoBytes;

/// Heap for reading: a frame, and what the writer that is compared with buffers.
const HEAP: usize = 256 << 10;
/// Heap for each byte of input: it is copied into frames, read and written again, in buffers that
/// grow by doubling.
const HEAP_PER_BYTE: usize = 8;

/// Decodes `input` as one record, as a recording, as the frames of one, and as frames whose checksums
/// are to be added.
pub fn run(input: &[u8]) {
    let ((), peak) = super::measured(|| {
        record(input);
        recording(input);
        recording(&[&head(), input].concat());
        recording(&sealed(input));
    });
    super::suffices(HEAP + HEAP_PER_BYTE * input.len(), peak);
}

/// What every recording begins with.
fn head() -> Vec<u8> {
    let mut head = b"lastbyte".to_vec();
    head.extend(FORMAT_VERSION.to_ne_bytes());
    head.extend(ABI_VERSION.to_ne_bytes());
    head
}

/// A recording of `input`: sizes of two bytes, each followed by so many.
fn sealed(mut input: &[u8]) -> Vec<u8> {
    let mut out = head();
    while let Some((size, rest)) = input.split_first_chunk() {
        let size = u16::from_le_bytes(*size);
        let (frame, rest) = rest.split_at(rest.len().min(size.into()));
        out.extend(u32::from(size).to_ne_bytes());
        out.extend(frame);
        out.extend(crc32fast::hash(frame).to_ne_bytes());
        input = rest;
    }
    out
}

fn record(input: &[u8]) {
    let mut words = vec![0u64; input.len().div_ceil(8) + 1];
    let room = words.as_mut_bytes();
    // Aligned as the ring's records are, and not.
    for at in [0, 1] {
        let bytes = &mut room[at..at + input.len()];
        bytes.copy_from_slice(input);
        if let Some(record) = Record::decode(bytes) {
            assert_eq!(at, 0, "decoded though not aligned");
            assert_eq!(usize::from(record.header().size), input.len());
        }
    }
}

/// What could be read, written again, is what was read.
fn recording(input: &[u8]) {
    let mut reader = match Reader::new(input) {
        Ok(reader) => reader,
        Err(Error::NotARecording | Error::OtherVersion { .. }) => return,
        Err(other) => panic!("{other}"),
    };
    let mut writer = Writer::new(Vec::new()).expect("memory can be written");
    loop {
        match reader.next() {
            Ok(Some(record)) => writer
                .append(record.bytes())
                .expect("a record that was read"),
            Ok(None) => break,
            Err(Error::Truncated { at } | Error::Corrupt { at, .. }) => {
                assert_eq!(
                    at,
                    writer.bytes(),
                    "damaged elsewhere than where reading ended"
                );
                break;
            }
            Err(other) => panic!("{other}"),
        }
    }
    let again = writer.finish().expect("memory can be written");
    assert_eq!(again, input[..again.len()]);
}
