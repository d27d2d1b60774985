//! How each sort of field is one or a few bytes: read, or written.

use std::collections::HashMap;

use tracer_ebpf::Proc;

use super::{process, session};

/// Names of each sort.
const NAMES: u8 = 32;
/// It is the process that had the pid before.
const EARLIER: u8 = 1 << 5;
/// When it started is not known.
const UNKNOWN: u8 = 1 << 6;
/// There is none.
const NONE: u8 = 1 << 7;
/// Numbers from here on are not themselves.
const LARGE: u8 = 0xe0;
/// Eight bytes follow.
const WHOLE: u8 = 0xff;
/// Numbers with something about them.
const ODD: [u64; 8] = [
    4096,
    65_536,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];
/// Time spans, ns.
const SPANS: [u64; 6] = [
    0,
    1_000,
    100_000,
    10_000_000,
    1_000_000_000,
    100_000_000_000,
];

/// Reads fields from a story, or writes them to one.
pub trait Pen {
    /// One byte as it is.
    fn byte(&mut self, value: &mut u8);
    /// Id of a session, or 0.
    fn session(&mut self, value: &mut u64);
    /// A process, or all zero.
    fn proc(&mut self, value: &mut Proc);
    /// A pid, or 0.
    fn pid(&mut self, value: &mut u32);
    /// Number of a kernel object, address of a socket: one of few, or 0.
    fn name(&mut self, value: &mut u64);
    /// A number that may be anything and mostly is small.
    fn number(&mut self, value: &mut u64);
    /// A time not long before the record's, or 0.
    fn moment(&mut self, value: &mut u64);

    /// The same as [`Pen::number`].
    fn word(&mut self, value: &mut u32) {
        let mut wide = u64::from(*value);
        self.number(&mut wide);
        // What does not fit is as good as any.
        *value = wide as u32;
    }

    /// A number that is cut to less than 256.
    fn short(&mut self, value: &mut u32) {
        let mut byte = *value as u8;
        self.byte(&mut byte);
        *value = byte.into();
    }

    /// Text with its length before it; the rest of the field is 0.
    fn text(&mut self, value: &mut [u8]) {
        let used = value.iter().rposition(|byte| *byte != 0);
        let mut len = u8::try_from(used.map_or(0, |at| at + 1)).unwrap_or(u8::MAX);
        self.byte(&mut len);
        let len = usize::from(len).min(value.len());
        value[..len].iter_mut().for_each(|byte| self.byte(byte));
        value[len..].fill(0);
    }
}

/// A story being read.
pub struct Read<'a> {
    rest: &'a [u8],
    now: u64,
}

impl<'a> Read<'a> {
    pub fn new(input: &'a [u8], now: u64) -> Self {
        Self { rest: input, now }
    }

    /// The next byte, if there is one.
    pub fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn get(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    fn whole(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.get()))
    }

    /// Lets time pass, or lets it go back; what time it is then.
    pub fn passes(&mut self) -> u64 {
        let code = self.get();
        let mantissa = u64::from(code % 32);
        self.now = match code / 32 {
            span @ 0..6 => self.now.saturating_add(mantissa * SPANS[usize::from(span)]),
            6 => self.now.saturating_sub(mantissa * 50_000_000),
            _ if mantissa == 31 => self.whole(),
            _ => self.now.saturating_add(mantissa),
        };
        self.now
    }

    /// A power of two, rarely a large one.
    pub fn power(&mut self) -> usize {
        let code = self.get() % 32;
        1 << if code < 28 { code % 6 } else { code - 18 }
    }
}

impl Pen for Read<'_> {
    fn byte(&mut self, value: &mut u8) {
        *value = self.get();
    }

    fn session(&mut self, value: &mut u64) {
        let code = self.get();
        *value = if code & NONE != 0 {
            0
        } else {
            session(code % NAMES)
        };
    }

    fn proc(&mut self, value: &mut Proc) {
        let code = self.get();
        *value = process(code % NAMES);
        if code & EARLIER != 0 {
            value.start -= 1_000_000_000;
        }
        if code & UNKNOWN != 0 {
            value.start = 0;
        }
        if code & NONE != 0 {
            *value = Proc::default();
        }
    }

    fn pid(&mut self, value: &mut u32) {
        let mut proc = Proc::default();
        self.proc(&mut proc);
        *value = proc.pid;
    }

    fn name(&mut self, value: &mut u64) {
        *value = (self.get() % (2 * NAMES)).into();
    }

    fn number(&mut self, value: &mut u64) {
        *value = match self.get() {
            WHOLE => self.whole(),
            code @ LARGE.. => ODD[usize::from(code - LARGE) % ODD.len()],
            code => code.into(),
        };
    }

    fn moment(&mut self, value: &mut u64) {
        let code = self.get();
        *value = match code {
            0 => 0,
            WHOLE => self.whole(),
            _ => {
                let span = SPANS[usize::from(code / 32) % SPANS.len()];
                self.now.saturating_sub(u64::from(code % 32) * span)
            }
        };
    }
}

/// A story being written.
pub struct Write {
    out: Vec<u8>,
    now: u64,
    /// What time it is in the records.
    theirs: Option<u64>,
    /// What has got a number, by what it is in the records.
    known: HashMap<(Sort, u64), u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Sort {
    Process,
    Name,
}

impl Write {
    pub fn new(now: u64) -> Self {
        Self {
            out: Vec::new(),
            now,
            theirs: None,
            known: HashMap::new(),
        }
    }

    pub fn put(&mut self, byte: u8) {
        self.out.push(byte);
    }

    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    /// Writes how much time has passed; it never goes back.
    pub fn comes_to(&mut self, theirs: u64) {
        let before = *self.theirs.get_or_insert(theirs);
        self.theirs = Some(before.max(theirs));
        let passed = theirs.saturating_sub(before);
        let code = span(passed, 5);
        self.now += passed_by(code);
        self.put(code);
    }

    fn numbered(&mut self, sort: Sort, value: u64, most: u8) -> u8 {
        let next = self.known.keys().filter(|(of, _)| *of == sort).count();
        // Two that share a number are no worse a story.
        *self
            .known
            .entry((sort, value))
            .or_insert((next % usize::from(most)) as u8)
    }
}

/// The longest time span that has a code and is not longer.
fn span(ns: u64, most: usize) -> u8 {
    let of = (1..=most).rev().find(|at| SPANS[*at] <= ns);
    let Some(at) = of else { return 0 };
    // Both are below 32.
    (at as u8) * 32 + (ns / SPANS[at]).min(31) as u8
}

fn passed_by(code: u8) -> u64 {
    u64::from(code % 32) * SPANS[usize::from(code / 32)]
}

impl Pen for Write {
    fn byte(&mut self, value: &mut u8) {
        self.put(*value);
    }

    fn session(&mut self, value: &mut u64) {
        if *value == 0 {
            return self.put(NONE);
        }
        let leader = tracer_ebpf::session_pid(*value).into();
        let number = self.numbered(Sort::Process, leader, NAMES);
        self.put(number);
    }

    fn proc(&mut self, value: &mut Proc) {
        self.pid(&mut value.pid);
    }

    fn pid(&mut self, value: &mut u32) {
        if *value == 0 {
            return self.put(NONE);
        }
        let number = self.numbered(Sort::Process, u64::from(*value), NAMES);
        self.put(number);
    }

    fn name(&mut self, value: &mut u64) {
        let number = match *value {
            0 => 0,
            name => 1 + self.numbered(Sort::Name, name, 2 * NAMES - 1),
        };
        self.put(number);
    }

    fn number(&mut self, value: &mut u64) {
        match u8::try_from(*value) {
            Ok(small) if small < LARGE => self.put(small),
            _ => {
                self.put(WHOLE);
                self.out.extend(value.to_le_bytes());
            }
        }
    }

    fn moment(&mut self, value: &mut u64) {
        let ago = self.theirs.unwrap_or(0).saturating_sub(*value);
        let code = match *value {
            0 => 0,
            _ => span(ago, 5).max(1),
        };
        self.put(code);
    }
}
