//! The records of one open session that are not handed to the writer yet. They are thinned out: most
//! samples of a stream and most scans for its holders say nothing new.
//!
//! What is thinned out is held back, not dropped, until a newer record says the same. So everything that
//! the model concludes can be concluded from the kept records as well.

use std::{
    hash::{DefaultHasher, Hasher as _},
    sync::Arc,
};

use tracer_ebpf::{
    COMM_LEN, ConnectionSiblings, Exec, Fork, Header, Kind, Loss, Proc, Record, STREAMS, Socket,
    Stream, Tick, edge, loss, role,
};
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::{pending::Key, record_list};
use crate::model::{Closed, Finding, SessionId, SessionScan, SessionView, Settled};

/// Least time between two kept samples of a moving stream, ns: enough to draw its throughput.
const SAMPLE_EVERY: u64 = 2_000_000_000;

/// The last sample of a stream.
#[derive(Clone, Copy, Debug, Default)]
struct LastSample {
    /// When the last sample that was kept was taken, ns of `CLOCK_BOOTTIME`.
    kept: u64,
    /// Bytes written and read, by the latest sample, kept or not.
    written: u64,
    read: u64,
}

/// What arrived since the last tick that was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum SinceTick {
    #[default]
    Nothing,
    /// Only records that are held back.
    Held,
    Kept,
}

/// See the module.
#[derive(Debug)]
pub(super) struct SessionJournal {
    pub key: Key,
    pub id: SessionId,
    /// The session as it was last reported; `None` before its first report.
    pub view: Option<Arc<SessionView>>,
    /// When it opened, wall clock, ns.
    pub opened: i64,
    /// Its row must be written (again).
    pub changed: bool,
    /// Findings not handed over yet, and when each was made, wall clock, ns.
    pub findings: Vec<(i64, Finding)>,
    /// Its end, and when that was, wall clock, ns.
    pub closed: Option<Box<(i64, Closed)>>,
    /// Records not handed over yet.
    pub bytes: Vec<u8>,
    /// Something must be handed over at the next tick.
    pub urgent: bool,
    /// Time of the first record in `bytes`, ns of `CLOCK_BOOTTIME`.
    pub waiting_since: u64,
    /// Records dropped for lack of room since the last one that was kept.
    lost: u64,
    /// Dropped records not handed over yet.
    pub unreported_lost: u64,
    held_samples: [Option<Box<Stream>>; STREAMS],
    held_socket: Option<Box<[u8]>>,
    held_scan: Option<Vec<u8>>,
    last_samples: [LastSample; STREAMS],
    /// Fingerprint of the last scan, and how often it was repeated.
    last_scan: (u64, u32),
    /// Processes that the kept records call servers.
    servers: Vec<Proc>,
    /// The kept records say that its connection carries other sessions.
    shares: bool,
    since_tick: SinceTick,
    /// The model reported something about it since the last tick that was kept.
    reported: bool,
}

impl SessionJournal {
    pub fn new(key: Key, id: SessionId) -> Self {
        Self {
            key,
            id,
            view: None,
            opened: 0,
            changed: false,
            findings: Vec::new(),
            closed: None,
            bytes: Vec::new(),
            urgent: false,
            waiting_since: 0,
            lost: 0,
            unreported_lost: 0,
            held_samples: [const { None }; STREAMS],
            held_socket: None,
            held_scan: None,
            last_samples: [LastSample::default(); STREAMS],
            last_scan: (0, 0),
            servers: Vec::new(),
            shares: false,
            since_tick: SinceTick::Nothing,
            reported: false,
        }
    }

    /// Takes in a record that an earlier daemon kept.
    pub fn recall(&mut self, record: &Record<'_>) {
        match record {
            Record::ConnectionSiblings(it) => self.shares = it.others > 0,
            Record::Stream(it) if it.edge == edge::SAMPLE => self.sampled(it),
            Record::Fork(it) if it.session == 0 => self.servers.push(it.child),
            Record::Exec(it) if it.session == 0 => self.servers.retain(|proc| *proc != it.proc),
            _ => {}
        }
    }

    /// Keeps records of what happened before the session.
    pub fn put(&mut self, bytes: &[u8]) {
        self.push(bytes, 0);
    }

    /// Keeps a record.
    pub fn keep(&mut self, record: &Record<'_>) {
        self.release();
        // A scan that found nothing new can be replaced by the same one before.
        self.held_scan = None;
        self.urgent = true;
        self.push(record.bytes(), record.header().time);
    }

    /// Takes a sample. Keeps it if it is evidence, or if its stream moved and the last one is old.
    pub fn sample(&mut self, sample: &Stream, is_evidence: bool) {
        let slot = sample.slot as usize;
        let Some(last) = self.last_samples.get(slot).copied() else {
            return;
        };
        let counters = &sample.counters;
        let moved = (counters.written, counters.read) != (last.written, last.read);
        let due = sample.header.time.saturating_sub(last.kept) >= SAMPLE_EVERY;
        self.sampled(sample);
        if moved && due || is_evidence {
            self.held_samples[slot] = None;
            self.last_samples[slot].kept = sample.header.time;
            self.push(sample.as_bytes(), sample.header.time);
        } else {
            self.held_samples[slot] = Some(Box::new(*sample));
            self.since_tick = self.since_tick.max(SinceTick::Held);
        }
    }

    /// Takes the state of its connection, from a scan that was made for another session. Keeps it if it
    /// is evidence.
    pub fn socket(&mut self, socket: &Socket, is_evidence: bool) {
        if is_evidence {
            self.held_socket = None;
            self.push(socket.as_bytes(), socket.header.time);
        } else {
            self.held_socket = Some(socket.as_bytes().into());
            self.since_tick = self.since_tick.max(SinceTick::Held);
        }
    }

    /// Takes the records of a complete scan that are about this session. `ended` is when it was complete,
    /// ns of `CLOCK_BOOTTIME`.
    pub fn scan(&mut self, records: Vec<u8>, ended: u64) {
        let mut hasher = DefaultHasher::new();
        for record in record_list::split(&records) {
            // All but the time.
            hasher.write(record.get(size_of::<u64>()..).unwrap_or_default());
        }
        let fingerprint = hasher.finish();
        let repeats = match self.last_scan {
            (last, repeats) if last == fingerprint => repeats.saturating_add(1),
            _ => 0,
        };
        self.last_scan = (fingerprint, repeats);
        if repeats <= SessionScan::MAX_REPEATS {
            self.release();
            self.held_scan = None;
            self.urgent = true;
            self.push(&records, ended);
        } else {
            self.held_scan = Some(records);
            self.since_tick = self.since_tick.max(SinceTick::Held);
        }
    }

    /// Keeps whether a process that a scan found is a server, and the name it started with, if the kept
    /// records do not say so yet.
    pub fn server(&mut self, proc: Proc, name: Option<[u8; COMM_LEN]>, time: u64) {
        let known = self.servers.iter().position(|known| *known == proc);
        match (name, known) {
            (Some(comm), None) => {
                self.servers.push(proc);
                self.push(fork_of_server(proc, comm, time).as_bytes(), time);
            }
            (None, Some(at)) => {
                self.servers.swap_remove(at);
                let mut left = Exec::new_zeroed();
                left.header = header(Kind::Exec, time);
                left.proc = proc;
                self.push(left.as_bytes(), time);
            }
            _ => {}
        }
    }

    /// The model reported something about the session.
    pub fn mark_reported(&mut self) {
        self.reported = true;
    }

    /// Takes a tick at which the model examined the session. Keeps it if it may lead to a conclusion.
    pub fn tick(&mut self, tick: &Tick, settled: &Settled) {
        let reported = std::mem::take(&mut self.reported);
        if !reported && !settled.is_due && self.since_tick != SinceTick::Kept {
            return;
        }
        let time = tick.header.time;
        self.release();
        if let Some(scan) = self.held_scan.take()
            && reported
        {
            self.push(&scan, time);
        }
        if self.shares == settled.is_alone {
            self.shares = !settled.is_alone;
            let siblings = siblings(self.id, u32::from(self.shares), time);
            self.push(siblings.as_bytes(), time);
        }
        self.push(tick.as_bytes(), time);
        self.since_tick = SinceTick::Nothing;
    }

    /// Drops the records that are not handed over yet: there is no room for them.
    pub fn lose(&mut self) {
        let lost = record_list::split(&self.bytes).count() as u64;
        self.lost += lost;
        self.unreported_lost += lost;
        self.bytes.clear();
    }

    /// Whether there is something to hand over.
    pub fn has_changes(&self) -> bool {
        !self.bytes.is_empty()
            || self.changed
            || !self.findings.is_empty()
            || self.closed.is_some()
            || self.unreported_lost > 0
    }

    /// Keeps what is held back, before something newer is kept.
    pub fn release(&mut self) {
        for slot in 0..STREAMS {
            if let Some(sample) = self.held_samples[slot].take() {
                self.last_samples[slot].kept = sample.header.time;
                self.push(sample.as_bytes(), sample.header.time);
            }
        }
        if let Some(socket) = self.held_socket.take() {
            self.push(&socket, 0);
        }
        if self.reported
            && let Some(scan) = self.held_scan.take()
        {
            self.push(&scan, 0);
        }
    }

    fn push(&mut self, bytes: &[u8], time: u64) {
        if self.bytes.is_empty() {
            self.waiting_since = time;
        }
        if self.lost > 0 {
            // A replay must know that something is missing here.
            let mut gap = Loss::new_zeroed();
            gap.header = header(Kind::Loss, time);
            gap.counts[loss::RING as usize] = std::mem::take(&mut self.lost);
            self.bytes.extend_from_slice(gap.as_bytes());
        }
        self.bytes.extend_from_slice(bytes);
        self.since_tick = SinceTick::Kept;
    }

    fn sampled(&mut self, sample: &Stream) {
        if let Some(last) = self.last_samples.get_mut(sample.slot as usize) {
            (last.written, last.read) = (sample.counters.written, sample.counters.read);
        }
    }
}

/// A process that became a server because a server forked it.
pub(super) fn fork_of_server(proc: Proc, comm: [u8; COMM_LEN], time: u64) -> Fork {
    let mut fork = Fork::new_zeroed();
    fork.header = header(Kind::Fork, time);
    fork.child = proc;
    fork.flags = role::SERVER;
    fork.comm = comm;
    fork
}

/// How many other sessions a session's connection carries.
pub(super) fn siblings(id: SessionId, others: u32, time: u64) -> ConnectionSiblings {
    ConnectionSiblings {
        header: header(Kind::ConnectionSiblings, time),
        session: id.0,
        others,
        pad: 0,
    }
}

fn header(kind: Kind, time: u64) -> Header {
    Header {
        time,
        kind: kind as u16,
        size: kind.size() as u16,
        cpu: 0,
    }
}
