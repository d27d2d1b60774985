//! Scenarios written as steps: each step is one record at the current time, applied at once.

mod results;
mod steps;

use lastbyte::model::{Model, Update};
use tracer_ebpf::{Header, Kind, Proc, Record, Scan, StreamNow, Tick, backend, session_id};
use zerocopy::{FromZeros, Immutable, IntoBytes};

pub const MS: u64 = 1_000_000;
pub const SERVER: u32 = 4700;
pub const SOCK: u64 = 0xffff_8880_0000_1000;

pub const STDIN: u32 = 0;
pub const STDOUT: u32 = 1;
pub const STDERR: u32 = 2;

/// The process with this pid, which in these stories is also when it started.
pub fn proc(pid: u32) -> Proc {
    Proc {
        start: u64::from(pid) * MS,
        pid,
        pad: 0,
    }
}

/// Id of the session that the process leads.
pub fn id(leader: u32) -> u64 {
    session_id(proc(leader))
}

/// The object of a stream.
pub fn object(leader: u32, slot: u32) -> u64 {
    u64::from(leader * 10 + slot)
}

pub fn text<const N: usize>(text: &str) -> [u8; N] {
    let mut out = [0; N];
    out[..text.len()].copy_from_slice(text.as_bytes());
    out
}

/// The records put in so far, and what the model made of them.
pub struct Scenario {
    pub model: Model,
    pub updates: Vec<Update>,
    pub records: Vec<Vec<u8>>,
    now: u64,
}

impl Scenario {
    /// No record yet.
    pub fn empty() -> Self {
        Self {
            model: Model::new(),
            updates: Vec::new(),
            records: Vec::new(),
            now: 10_000 * MS,
        }
    }

    /// Tracing began at second 10, with one server and no session.
    pub fn new(backend: u32) -> Self {
        let mut scenario = Self::empty();
        scenario.start(backend);
        scenario.server(SERVER);
        scenario.ready();
        scenario
    }

    /// The same with every function of the kernel watched; a stall is reported after so many ms.
    pub fn with_stall_after(ms: u64) -> Self {
        let mut scenario = Self::empty();
        scenario.start_with(backend::FENTRY, |r| r.stall_after = ms * MS);
        scenario.server(SERVER);
        scenario.ready();
        scenario
    }

    /// The same, watched through the kernel's own functions.
    pub fn exact() -> Self {
        Self::new(backend::FENTRY)
    }

    /// Lets time pass.
    pub fn after(&mut self, ms: u64) -> &mut Self {
        self.now += ms * MS;
        self
    }

    /// Time since the machine started, ns.
    pub fn now(&self) -> u64 {
        self.now
    }

    pub fn tick(&mut self) -> &mut Self {
        self.put(Kind::Tick, |_: &mut Tick| ())
    }

    /// Does what the tracer does: ticks at every deadline and scans whenever asked, finding what
    /// `holders` says, until `ms` have passed.
    pub fn run(&mut self, ms: u64, mut holders: impl FnMut(&mut Self)) -> &mut Self {
        let end = self.now + ms * MS;
        self.tick();
        for _ in 0..10_000 {
            if self.model.needs_scan() {
                self.scan(&mut holders);
                self.tick();
                continue;
            }
            match self.model.deadline() {
                Some(deadline) if deadline <= end => {
                    self.now = self.now.max(deadline);
                    self.tick();
                }
                _ => {
                    self.now = end;
                    return self.tick();
                }
            }
        }
        panic!(
            "the model never rests: deadline {:?}, scan {}",
            self.model.deadline(),
            self.model.needs_scan()
        );
    }

    /// The same when scans find no holder.
    pub fn idle(&mut self, ms: u64) -> &mut Self {
        self.run(ms, |_| ())
    }

    pub fn scan(&mut self, holders: &mut impl FnMut(&mut Self)) -> &mut Self {
        self.put(Kind::ScanBegin, |_: &mut Scan| ());
        holders(self);
        self.put(Kind::ScanEnd, |_: &mut Scan| ())
    }

    pub fn put<T: FromZeros + IntoBytes + Immutable>(
        &mut self,
        kind: Kind,
        fill: impl FnOnce(&mut T),
    ) -> &mut Self {
        let mut record = T::new_zeroed();
        fill(&mut record);
        let header = Header {
            time: self.now,
            kind: kind as u16,
            size: kind.size() as u16,
            cpu: 0,
        };
        let mut bytes = record.as_bytes().to_vec();
        bytes[..size_of::<Header>()].copy_from_slice(header.as_bytes());
        self.apply(&bytes);
        self.records.push(bytes);
        self
    }

    /// Applies the bytes of a record.
    pub fn apply(&mut self, bytes: &[u8]) {
        apply(&mut self.model, bytes, &mut self.updates);
    }
}

/// Whatever the scenario, a replay of what the store kept of a session gives the same findings.
impl Drop for Scenario {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            crate::trace::is_told_alike(&self.records);
        }
    }
}

/// Applies the bytes of a record, at any alignment.
pub fn apply(model: &mut Model, bytes: &[u8], updates: &mut Vec<Update>) {
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    let aligned = &mut words.as_mut_bytes()[..bytes.len()];
    aligned.copy_from_slice(bytes);
    model.apply(Record::decode(aligned).expect("a record"), updates);
}

/// Streams with `unread` bytes in stdout, of `written`.
pub fn stdout_has(unread: u64, written: u64) -> [StreamNow; 3] {
    let stdout = StreamNow {
        unread,
        written,
        read: written - unread,
    };
    [StreamNow::default(), stdout, StreamNow::default()]
}

/// Streams that hold nothing.
pub fn empty() -> [StreamNow; 3] {
    Default::default()
}
