//! A recording: the records of a road, in order, so that the model can walk it again.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `lastbyte` |
//! | 4 | [`FORMAT_VERSION`] |
//! | 4 | [`ABI_VERSION`] |
//! | then for each record: 4 | its size |
//! | size | the record |
//! | 4 | CRC-32 of the record |
//!
//! Numbers are in the byte order of the machine, as the records themselves are.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use tracer_ebpf::{ABI_VERSION, Header, Kind, Record};
use zerocopy::FromBytes;

/// Changes whenever the framing does.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"lastbyte";
/// Bytes before the first frame.
const HEAD: u64 = 16;
/// Far more than any record has.
const MAX_FRAME: usize = 4096;

/// Why a recording cannot be written or read (on).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file begins with something else.
    #[error("not a lastbyte recording")]
    NotARecording,
    /// Another version wrote it.
    #[error(
        "the recording has format {format} with record version {abi}, this lastbyte reads format {FORMAT_VERSION} with record version {ABI_VERSION}: replay it with the version that made it"
    )]
    OtherVersion {
        /// Its [`FORMAT_VERSION`].
        format: u32,
        /// Its [`ABI_VERSION`].
        abi: u32,
    },
    /// The file ends inside a record, as when the machine went down. All before it was good.
    #[error(
        "the recording is cut off inside the record at byte {at}; everything before it was replayed"
    )]
    Truncated {
        /// Where the record begins.
        at: u64,
    },
    /// A record is not what was written. All before it was good.
    #[error("the recording is damaged at byte {at}: {what}; everything before it was replayed")]
    Corrupt {
        /// Where the record begins.
        at: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The bytes given to be written are no record.
    #[error("not a record: {0} bytes that do not decode")]
    NotARecord(usize),
    /// The file cannot be had.
    #[error("cannot be opened")]
    Open(#[source] io::Error),
    /// A recording is evidence: none is overwritten.
    #[error("is there already: give a name that is not taken")]
    Exists,
    /// The file system failed.
    #[error("the recording cannot be read or written: {0}")]
    Io(#[from] io::Error),
}

/// Writes a recording.
///
/// Records are buffered until a tick, so that what a crash leaves ends with a complete drain of the
/// ring.
#[derive(Debug)]
pub struct Writer<W: Write = File> {
    out: BufWriter<W>,
    bytes: u64,
}

impl Writer {
    /// Begins a recording in a new file that only its owner can read: it tells what was executed.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Open`], [`Error::Io`].
    pub fn create(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        Self::new(file.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists,
            _ => Error::Open(error),
        })?)
    }
}

impl<W: Write> Writer<W> {
    /// Begins a recording.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new(out: W) -> Result<Self, Error> {
        let mut out = BufWriter::with_capacity(1 << 16, out);
        out.write_all(&MAGIC)?;
        out.write_all(&FORMAT_VERSION.to_ne_bytes())?;
        out.write_all(&ABI_VERSION.to_ne_bytes())?;
        out.flush()?;
        Ok(Self { out, bytes: HEAD })
    }

    /// Appends the bytes of one record.
    ///
    /// # Errors
    /// [`Error::NotARecord`] when the bytes have not the size that their kind has, [`Error::Io`].
    pub fn append(&mut self, record: &[u8]) -> Result<(), Error> {
        let kind = Header::read_from_prefix(record)
            .ok()
            .and_then(|(header, _)| {
                Kind::of(header.kind).filter(|_| header.size as usize == record.len())
            })
            .filter(|kind| kind.size() == record.len())
            .ok_or(Error::NotARecord(record.len()))?;
        // A record has far less than 4 GiB.
        self.out.write_all(&(record.len() as u32).to_ne_bytes())?;
        self.out.write_all(record)?;
        self.out.write_all(&crc32fast::hash(record).to_ne_bytes())?;
        self.bytes += record.len() as u64 + 8;
        if matches!(kind, Kind::Tick | Kind::Ready) {
            self.out.flush()?;
        }
        Ok(())
    }

    /// Bytes written so far, buffered ones included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Hands everything written so far to the file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn flush(&mut self) -> Result<(), Error> {
        Ok(self.out.flush()?)
    }

    /// Ends the recording and gives the file back.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(self) -> Result<W, Error> {
        self.out
            .into_inner()
            .map_err(|error| Error::Io(error.into_error()))
    }
}

/// Reads a recording.
#[derive(Debug)]
pub struct Reader<R = BufReader<File>> {
    input: R,
    /// Where the next frame begins.
    at: u64,
    /// Records want to be aligned to 8.
    words: Vec<u64>,
}

impl Reader<BufReader<File>> {
    /// Opens a recording.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::NotARecording`], [`Error::OtherVersion`], [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::Open)?;
        Self::new(BufReader::with_capacity(1 << 16, file))
    }
}

impl<R: Read> Reader<R> {
    /// Reads a recording; `input` should be buffered.
    ///
    /// # Errors
    /// [`Error::NotARecording`], [`Error::OtherVersion`], [`Error::Io`].
    pub fn new(mut input: R) -> Result<Self, Error> {
        let mut head = [0; HEAD as usize];
        if fill(&mut input, &mut head)? < head.len() || head[..8] != MAGIC {
            return Err(Error::NotARecording);
        }
        let (format, abi) = (number(&head[8..]), number(&head[12..]));
        if (format, abi) != (FORMAT_VERSION, ABI_VERSION) {
            return Err(Error::OtherVersion { format, abi });
        }
        Ok(Self {
            input,
            at: HEAD,
            words: Vec::new(),
        })
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Corrupt`], [`Error::Io`]. There is nothing to be had after
    /// an error.
    #[expect(
        clippy::should_implement_trait,
        reason = "what it gives borrows from the reader"
    )]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, Error> {
        let at = self.at;
        let mut size = [0; 4];
        match fill(&mut self.input, &mut size)? {
            0 => return Ok(None),
            4 => {}
            _ => return Err(Error::Truncated { at }),
        }
        let size = number(&size) as usize;
        if size > MAX_FRAME || size < size_of::<Header>() {
            return Err(Error::Corrupt {
                at,
                what: "no record has this size",
            });
        }
        self.words.clear();
        self.words.resize(size.div_ceil(8), 0);
        let record = &mut zerocopy::IntoBytes::as_mut_bytes(self.words.as_mut_slice())[..size];
        let mut sum = [0; 4];
        if fill(&mut self.input, record)? < size || fill(&mut self.input, &mut sum)? < sum.len() {
            return Err(Error::Truncated { at });
        }
        if crc32fast::hash(record) != number(&sum) {
            return Err(Error::Corrupt {
                at,
                what: "its checksum does not match",
            });
        }
        self.at += size as u64 + 8;
        let record: &[u8] = record;
        Record::decode(record).map(Some).ok_or(Error::Corrupt {
            at,
            what: "no such record",
        })
    }
}

/// Reads until `buffer` is full or the input ends; gives the bytes read.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, io::Error> {
    let mut len = 0;
    while len < buffer.len() {
        match input.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// The number that the first four bytes are; 0 when there are fewer.
fn number(bytes: &[u8]) -> u32 {
    bytes
        .first_chunk()
        .map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use tracer_ebpf::{Loss, Tick};
    use zerocopy::IntoBytes;

    use super::*;

    fn header(kind: Kind, time: u64) -> Header {
        Header {
            time,
            kind: kind as u16,
            size: kind.size() as u16,
            cpu: 0,
        }
    }

    fn tick(time: u64) -> Vec<u8> {
        Tick {
            header: header(Kind::Tick, time),
        }
        .as_bytes()
        .to_vec()
    }

    fn loss(time: u64) -> Vec<u8> {
        Loss {
            header: header(Kind::Loss, time),
            counts: [3; _],
        }
        .as_bytes()
        .to_vec()
    }

    fn recording(records: &[Vec<u8>]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        for record in records {
            writer.append(record).unwrap();
        }
        let bytes = writer.bytes();
        let file = writer.finish().unwrap();
        assert_eq!(file.len() as u64, bytes);
        file
    }

    fn times(file: &[u8]) -> (Vec<u64>, Option<Error>) {
        let mut reader = Reader::new(file).unwrap();
        let mut times = Vec::new();
        loop {
            match reader.next() {
                Ok(Some(record)) => times.push(record.header().time),
                Ok(None) => return (times, None),
                Err(error) => return (times, Some(error)),
            }
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let file = recording(&[tick(1), loss(2), tick(3)]);
        let (times, error) = times(&file);
        assert_eq!(times, [1, 2, 3]);
        assert!(error.is_none());
    }

    #[test]
    fn a_tick_reaches_the_file_at_once() {
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file).unwrap();
        writer.append(&loss(1)).unwrap();
        writer.append(&tick(2)).unwrap();
        std::mem::forget(writer);
        assert_eq!(times(&file).0, [1, 2]);
    }

    #[test]
    fn a_cut_at_any_byte_keeps_what_was_before() {
        let file = recording(&[tick(1), loss(2), tick(3)]);
        let mut starts = vec![HEAD as usize];
        for kind in [Kind::Tick, Kind::Loss, Kind::Tick] {
            starts.push(starts.last().unwrap() + kind.size() + 8);
        }
        for len in HEAD as usize..=file.len() {
            let whole = starts.iter().filter(|start| **start <= len).count() - 1;
            let (times, error) = times(&file[..len]);
            assert_eq!(times.len(), whole, "cut at {len}");
            match error {
                None => assert_eq!(starts[whole], len),
                Some(Error::Truncated { at }) => assert_eq!(at as usize, starts[whole]),
                Some(other) => panic!("cut at {len}: {other}"),
            }
        }
        for len in 0..HEAD as usize {
            assert!(matches!(
                Reader::new(&file[..len]),
                Err(Error::NotARecording)
            ));
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed_where_it_is() {
        let good = recording(&[tick(1), loss(2), tick(3)]);
        let second = HEAD as usize + Kind::Tick.size() + 8;
        for byte in second..second + Kind::Loss.size() + 8 {
            let mut file = good.clone();
            file[byte] ^= 0x10;
            let (times, error) = times(&file);
            assert_eq!(times, [1], "flipped in byte {byte}");
            match error.unwrap() {
                Error::Corrupt { at, .. } | Error::Truncated { at } => {
                    assert_eq!(at as usize, second);
                }
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn other_files_and_versions_are_refused_by_name() {
        assert!(matches!(
            Reader::new(&b"PNG and so on, long enough"[..]),
            Err(Error::NotARecording)
        ));
        let mut file = recording(&[]);
        file[12] ^= 0xff;
        let error = Reader::new(&file[..]).unwrap_err();
        let abi = ABI_VERSION ^ 0xff;
        assert!(
            matches!(error, Error::OtherVersion { format: FORMAT_VERSION, abi: other } if other == abi)
        );
        assert!(error.to_string().contains(&abi.to_string()));
    }

    #[test]
    fn a_recording_is_private_and_never_overwritten() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("lastbyte-recording-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let mut writer = Writer::create(&path).unwrap();
        writer.append(&tick(7)).unwrap();
        drop(writer);
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(matches!(Writer::create(&path), Err(Error::Exists)));
        let mut reader = Reader::open(&path).unwrap();
        assert_eq!(reader.next().unwrap().unwrap().header().time, 7);
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(Reader::open(&path), Err(Error::Open(_))));
    }

    #[test]
    fn only_records_are_recorded() {
        let mut writer = Writer::new(Vec::new()).unwrap();
        assert!(matches!(writer.append(b"hello"), Err(Error::NotARecord(5))));
        let mut long = tick(1);
        long.extend([0; 8]);
        assert!(matches!(writer.append(&long), Err(Error::NotARecord(24))));
    }
}
