//! The records of one open session that are not handed over yet, thinned out: of the samples of a
//! stream and the looks at its holders most tell nothing new.
//!
//! What is thinned out is held back, not dropped, until something newer says the same: whatever the
//! model concludes from it, is concluded from what is kept as well.

use std::{
    hash::{DefaultHasher, Hasher as _},
    sync::Arc,
};

use tracer_ebpf::{
    COMM_LEN, ConnectionSiblings, Exec, Fork, Header, Kind, Loss, Proc, Progress, Record, STREAMS,
    Stream, Tick, edge, loss, role,
};
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::{pending::Key, records};
use crate::model::{Closed, Finding, SessionId, SessionView};

/// Of a stream that moves, one sample in so many ns is kept: enough to draw its throughput.
const SAMPLE_EVERY: u64 = 2_000_000_000;
/// Looks that find what the one before found are kept so many times: the model believes some of it
/// only the second time.
const REPEATS: u32 = 2;

/// What was last seen of a stream.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Time of the last sample that was kept.
    kept: u64,
    written: u64,
    read: u64,
    blocked: bool,
    /// Its server's end was seen to be closed, by one owner at least.
    closed: bool,
}

/// What happened since the last tick that was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Since {
    #[default]
    Nothing,
    /// Only what is held back.
    Held,
    Kept,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Log {
    pub key: Key,
    pub id: SessionId,
    /// Who it is; `None` before it is told of.
    pub view: Option<Arc<SessionView>>,
    /// When it opened, wall clock, ns.
    pub opened: i64,
    /// Its row is to be written (anew).
    pub changed: bool,
    pub findings: Vec<(i64, Finding)>,
    pub closed: Option<Box<(i64, Closed)>>,
    /// Records since it was handed over last.
    pub bytes: Vec<u8>,
    /// Among them is something that must not wait.
    pub loud: bool,
    /// Time of the first of them.
    pub waiting_since: u64,
    /// Records that had no room, since the last that had.
    lost: u64,
    /// The same, not handed over yet.
    pub lost_news: u64,
    /// The kernel's socket that its connection is, by address; 0 when not known.
    pub sock: u64,
    held: [Option<Box<Stream>>; STREAMS],
    held_socket: Option<Box<[u8]>>,
    held_look: Option<Vec<u8>>,
    progress: Progress,
    seen: [Seen; STREAMS],
    ending: bool,
    /// Fingerprint of the last look, and how often it was the same.
    look: (u64, u32),
    /// When the last look ended.
    looked: u64,
    /// Processes that are told to be servers.
    servers: Vec<Proc>,
    shares: bool,
    since: Since,
    /// The model told something of it since the last tick that was kept.
    told: bool,
}

impl Log {
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
            loud: false,
            waiting_since: 0,
            lost: 0,
            lost_news: 0,
            sock: 0,
            held: [const { None }; STREAMS],
            held_socket: None,
            held_look: None,
            progress: Progress::default(),
            seen: [Seen::default(); STREAMS],
            ending: false,
            look: (0, 0),
            looked: 0,
            servers: Vec::new(),
            shares: false,
            since: Since::Nothing,
            told: false,
        }
    }

    /// Takes in a record that was kept before, as another tracer left it.
    pub fn recall(&mut self, record: &Record<'_>) {
        self.note(record);
        match record {
            Record::ConnectionSiblings(it) => self.shares = it.others > 0,
            Record::Stream(it) if it.edge == edge::SAMPLE => self.saw(it),
            Record::Fork(it) if it.session == 0 => self.servers.push(it.child),
            Record::Exec(it) if it.session == 0 => self.servers.retain(|proc| *proc != it.proc),
            _ => {}
        }
    }

    /// Puts down what is told of what was before.
    pub fn put(&mut self, bytes: &[u8]) {
        self.push(bytes, 0);
    }

    /// Keeps a record.
    pub fn keep(&mut self, record: &Record<'_>) {
        self.note(record);
        self.release();
        // A look that told nothing is as good as its like before.
        self.held_look = None;
        self.loud = true;
        self.push(record.bytes(), record.header().time);
    }

    /// Takes a sample, keeping it if it tells something new.
    pub fn sample(&mut self, sample: &Stream) {
        let slot = sample.slot as usize;
        let Some(seen) = self.seen.get(slot).copied() else {
            return;
        };
        let counters = &sample.counters;
        let pending = counters.written > counters.read;
        let moved = (counters.written, counters.read) != (seen.written, seen.read);
        // From here the model counts how long something rests.
        let turned =
            pending != (seen.written > seen.read) || (counters.blocked_since != 0) != seen.blocked;
        let due = sample.header.time.saturating_sub(seen.kept) >= SAMPLE_EVERY;
        let keep = moved && due || turned && self.ending || seen.closed;
        self.saw(sample);
        if keep {
            self.held[slot] = None;
            self.seen[slot].kept = sample.header.time;
            self.push(sample.as_bytes(), sample.header.time);
        } else {
            self.held[slot] = Some(Box::new(*sample));
            self.since = self.since.max(Since::Held);
        }
    }

    /// Takes a look at the connection, which is made for another session.
    pub fn socket(&mut self, socket: &tracer_ebpf::Socket) {
        // What the client says is of no use to anyone here.
        let progress = Progress {
            heard: 0,
            ..socket.progress
        };
        let moved = self.progress != progress;
        self.progress = progress;
        if moved && self.ending {
            self.held_socket = None;
            self.push(socket.as_bytes(), socket.header.time);
        } else {
            self.held_socket = Some(socket.as_bytes().into());
            self.since = self.since.max(Since::Held);
        }
    }

    /// Takes a look that is complete: from its beginning to its end what concerns this session.
    pub fn look(&mut self, look: Vec<u8>, ended: u64) {
        let mut hasher = DefaultHasher::new();
        for record in records::split(&look) {
            hasher.write(record.get(size_of::<u64>()..).unwrap_or_default());
        }
        let print = hasher.finish();
        let repeats = match self.look {
            (last, repeats) if last == print => repeats.saturating_add(1),
            _ => 0,
        };
        self.look = (print, repeats);
        self.looked = ended;
        if repeats <= REPEATS {
            self.release();
            self.held_look = None;
            self.loud = true;
            self.push(&look, ended);
        } else {
            self.held_look = Some(look);
            self.since = self.since.max(Since::Held);
        }
    }

    /// Says of the processes of a look whether they are servers, as far as that is news.
    pub fn servers(&mut self, proc: Proc, name: Option<[u8; COMM_LEN]>, time: u64) {
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

    /// The model told something of the session.
    pub fn tells(&mut self) {
        self.told = true;
    }

    /// A tick has been applied. `alone` tells that the connection carried nothing else when the
    /// session was seen to; `due`, for when it had asked to be seen to.
    pub fn tick(&mut self, tick: &Tick, alone: bool, due: Option<u64>) {
        // The model sees to every session after a look at it.
        let due = due.is_some_and(|due| due <= tick.header.time && due != self.looked);
        let told = std::mem::take(&mut self.told);
        if !told && !due && self.since != Since::Kept {
            return;
        }
        let time = tick.header.time;
        self.release();
        if let Some(look) = self.held_look.take()
            && told
        {
            self.push(&look, time);
        }
        if self.shares == alone {
            self.shares = !alone;
            let company = company(self.id, u32::from(!alone), time);
            self.push(company.as_bytes(), time);
        }
        self.push(tick.as_bytes(), time);
        self.since = Since::Nothing;
    }

    /// Its records since it was handed over last have no room.
    pub fn lose(&mut self) {
        let lost = records::split(&self.bytes).count() as u64;
        self.lost += lost;
        self.lost_news += lost;
        self.bytes.clear();
    }

    /// Whether there is something to hand over.
    pub fn waits(&self) -> bool {
        !self.bytes.is_empty()
            || self.changed
            || !self.findings.is_empty()
            || self.closed.is_some()
            || self.lost_news > 0
    }

    /// Puts what is held back where it belongs.
    pub fn release(&mut self) {
        for slot in 0..STREAMS {
            if let Some(sample) = self.held[slot].take() {
                self.seen[slot].kept = sample.header.time;
                self.push(sample.as_bytes(), sample.header.time);
            }
        }
        if let Some(socket) = self.held_socket.take() {
            self.push(&socket, 0);
        }
        if self.told
            && let Some(look) = self.held_look.take()
        {
            self.push(&look, 0);
        }
    }

    fn push(&mut self, bytes: &[u8], time: u64) {
        if self.bytes.is_empty() {
            self.waiting_since = time;
        }
        if self.lost > 0 {
            // Whoever reads on knows that something is missing here.
            let mut gap = Loss::new_zeroed();
            gap.header = header(Kind::Loss, time);
            gap.counts[loss::RING as usize] = std::mem::take(&mut self.lost);
            self.bytes.extend_from_slice(gap.as_bytes());
        }
        self.bytes.extend_from_slice(bytes);
        self.since = Since::Kept;
    }

    fn saw(&mut self, sample: &Stream) {
        if let Some(seen) = self.seen.get_mut(sample.slot as usize) {
            (seen.written, seen.read) = (sample.counters.written, sample.counters.read);
            seen.blocked = sample.counters.blocked_since != 0;
        }
    }

    fn note(&mut self, record: &Record<'_>) {
        let leader = role::LEADER | role::EXITED;
        self.ending |= match record {
            Record::Chld(_) => true,
            Record::Exit(it) => it.flags & role::LEADER != 0,
            Record::Exec(it) | Record::Process(it) => it.flags & leader == leader,
            Record::SessionStart(it) => {
                self.sock = it.conn.sock;
                it.leader.pid == 0
            }
            _ => false,
        };
        if let Record::Stream(it) = record
            && it.edge == edge::SERVER_CLOSE
            && let Some(seen) = self.seen.get_mut(it.slot as usize)
        {
            seen.closed = true;
        }
    }
}

/// A process that became a server by being forked by one.
pub(super) fn fork_of_server(proc: Proc, comm: [u8; COMM_LEN], time: u64) -> Fork {
    let mut fork = Fork::new_zeroed();
    fork.header = header(Kind::Fork, time);
    fork.child = proc;
    fork.flags = role::SERVER;
    fork.comm = comm;
    fork
}

/// How many others a session's connection carries.
pub(super) fn company(id: SessionId, others: u32, time: u64) -> ConnectionSiblings {
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
