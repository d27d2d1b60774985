//! Keeps secrets out of everything that is shown or stored: arguments are masked in the record
//! itself, before the model, a recording or a store see it.
//!
//! What is a secret is told by how it is written: after `--password`, in `TOKEN=…`, in a URL, by the
//! look of well-known tokens, also inside the script of `bash -c`. Where it is not clear how far a
//! secret reaches, more is masked rather than less.

mod program;
mod text;
mod words;

use std::ops::Range;

use regex::bytes::{Regex, RegexBuilder};
use tracer_ebpf::{ARGV_LEN, Exec, Kind};
use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes as _};

/// Stands for a secret of any length.
pub(super) const MASK: &str = "***";
/// Largest compiled size of a pattern of the user's, bytes.
const PATTERN_SIZE: usize = 1 << 20;
/// Where `Header::kind` is.
const KIND: Range<usize> = 8..10;

/// How much of a command's arguments is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Capture {
    /// All of them.
    Full,
    /// All of them, with what looks like a secret masked.
    #[default]
    Redacted,
    /// None: a command is known by the name of its program.
    Comm,
}

impl Capture {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::Full, Self::Redacted, Self::Comm];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Redacted => "redacted",
            Self::Comm => "comm",
        }
    }
}

/// Masks records one after another. The default masks what looks like a secret.
#[derive(Debug)]
pub struct Redactor {
    capture: Capture,
    patterns: Vec<Regex>,
    /// Where secrets are in the arguments at hand; kept for its memory.
    secrets: Vec<Range<usize>>,
    masked: Box<Exec>,
}

impl Default for Redactor {
    fn default() -> Self {
        Self {
            capture: Capture::default(),
            patterns: Vec::new(),
            secrets: Vec::new(),
            masked: Box::new(Exec::new_zeroed()),
        }
    }
}

impl Redactor {
    /// `patterns` are masked beside what is known: all that they match in the arguments (each ended
    /// by a NUL), or only their first group if they have one.
    ///
    /// # Errors
    /// Says which pattern is no regular expression, and why.
    pub fn new<'a>(
        capture: Capture,
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, regex::Error> {
        let compile = |pattern| RegexBuilder::new(pattern).size_limit(PATTERN_SIZE).build();
        Ok(Self {
            capture,
            patterns: patterns
                .into_iter()
                .map(compile)
                .collect::<Result<_, _>>()?,
            ..Self::default()
        })
    }

    /// The record as it may be seen: `record` itself unless something in it is masked. A masked one
    /// is a record like any other; of its arguments' true length, `argv_full` tells only how much
    /// was not captured.
    pub fn apply<'a>(&'a mut self, record: &'a [u8]) -> &'a [u8] {
        if self.capture == Capture::Full || !has_arguments(record) {
            return record;
        }
        let Ok(exec) = Exec::ref_from_bytes(record) else {
            return record;
        };
        let len = (exec.argv_len as usize).min(ARGV_LEN);
        let uncaptured = exec.argv_full.saturating_sub(exec.argv_len);
        self.secrets.clear();
        match self.capture {
            Capture::Comm if exec.argv_full == 0 && len == 0 => return record,
            Capture::Comm => *self.masked = without_arguments(exec),
            _ => {
                let argv = &exec.argv[..len];
                text::find(argv, uncaptured > 0, &mut self.secrets);
                for pattern in &self.patterns {
                    find_pattern(pattern, argv, &mut self.secrets);
                }
                if self.secrets.is_empty() {
                    return record;
                }
                *self.masked = without_arguments(exec);
                let full = mask(argv, &mut self.secrets, &mut self.masked.argv);
                self.masked.argv_len = full.min(ARGV_LEN) as u32;
                self.masked.argv_full = uncaptured.saturating_add(full as u32);
            }
        }
        self.masked.as_bytes()
    }
}

fn without_arguments(record: &Exec) -> Exec {
    Exec {
        argv_len: 0,
        argv_full: 0,
        argv: [0; ARGV_LEN],
        ..*record
    }
}

fn has_arguments(record: &[u8]) -> bool {
    let kind = record
        .get(KIND)
        .and_then(|kind| Some(u16::from_ne_bytes(kind.try_into().ok()?)));
    [Some(Kind::Exec as u16), Some(Kind::Process as u16)].contains(&kind)
}

fn find_pattern(pattern: &Regex, argv: &[u8], secrets: &mut Vec<Range<usize>>) {
    if pattern.captures_len() == 1 {
        secrets.extend(pattern.find_iter(argv).map(|found| found.range()));
    } else {
        let groups = pattern.captures_iter(argv).filter_map(|found| found.get(1));
        secrets.extend(groups.map(|found| found.range()));
    }
}

/// Writes `argv` with masks for `secrets`; as much as there is room for. Ends of words stay. Returns
/// how long it would have become.
fn mask(argv: &[u8], secrets: &mut [Range<usize>], out: &mut [u8; ARGV_LEN]) -> usize {
    secrets.sort_unstable_by_key(|secret| secret.start);
    let mut len = 0;
    let mut put = |bytes: &[u8]| {
        if let Some(room) = out.get_mut(len..) {
            let fits = bytes.len().min(room.len());
            room[..fits].copy_from_slice(&bytes[..fits]);
        }
        len += bytes.len();
    };
    let mut done = 0;
    let mut at = 0;
    while let Some(secret) = secrets.get(at) {
        let start = secret.start.max(done);
        // What touches is one secret: a mask beside a mask would tell of two.
        let mut end = secret.end.max(start);
        at += 1;
        while let Some(next) = secrets.get(at).filter(|next| next.start <= end) {
            end = end.max(next.end);
            at += 1;
        }
        put(&argv[done..start]);
        for (i, part) in argv[start..end].split(|byte| *byte == 0).enumerate() {
            if i > 0 {
                put(b"\0");
            }
            if !part.is_empty() {
                put(MASK.as_bytes());
            }
        }
        done = end;
    }
    put(&argv[done..]);
    len
}
