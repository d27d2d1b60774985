//! What is known of one stream.

use tracer_ebpf::{COMM_LEN, Counters, StreamEnds, StreamNow, edge, transport};

use super::view::Slot;

/// From a close by one of several owners of the server's end to the look for the others, ns: long enough
/// for a child that was just forked to execute something and have it no more.
const SHARED_CLOSE_SETTLES: u64 = 300_000_000;
/// From one such look to the next at most, ns.
const SHARED_CLOSE_LOOKS: u64 = 10_000_000_000;
/// How long after that such a close is taken for the end though nobody could look, ns.
const NOBODY_LOOKS: u64 = 2_000_000_000;
/// How long a blocked or unread stream may rest before it is told as stalled, ns.
pub(super) const STALLED_AFTER: u64 = 1_000_000_000;

/// The server's end is gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Close {
    pub time: u64,
    /// When the last copy of it that was seen to go went, or the last look found that another server's
    /// process has one.
    latest: u64,
    /// Bytes in the object then.
    pub unread: u64,
    /// Bytes read until then.
    read: u64,
    /// Write ends that were open then.
    pub writers: u32,
    /// The server's process was ending.
    pub exiting: bool,
    /// The leader was dead already.
    pub after_leader: bool,
    /// Other processes had copies of the server's end, and may still read.
    shared: bool,
    /// Only concluded from nobody having the server's end: `unread` is not known.
    pub unseen: bool,
    /// Something that was sent on the connection had not been acknowledged.
    pub unanswered: bool,
    /// When the client had last sent something; 0 when not known.
    pub heard: u64,
}

/// Nothing moves although something should.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stall {
    /// Since when.
    pub since: u64,
    /// For long enough to be a finding.
    pub long: bool,
}

/// A process that is no server read what the command had written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taker {
    pub pid: u32,
    pub comm: [u8; COMM_LEN],
}

/// See the module.
#[derive(Debug)]
pub(super) struct Stream {
    pub slot: Slot,
    pub object: u64,
    transport: u32,
    pub counters: Counters,
    /// When `counters` were so.
    pub sampled: u64,
    /// Since when there have been unread bytes at every look.
    pending_since: Option<u64>,
    /// Bytes written when the leader exited, or when the stream was first seen after that.
    pub written_at_exit: Option<u64>,
    pub eof: bool,
    pub writers_gone: bool,
    pub close: Option<Close>,
    /// Some of what was written was packets, of which short reads discard what they have no room for.
    pub packets: bool,
    /// Bytes that the server had read since it last wrote to its connection, as far as known.
    pub held: u64,
    /// What it had queued there when it read them.
    pub mark: u64,
    /// What it had queued there at the first look after the close that showed it had written again:
    /// once that is acknowledged, nothing of the stream is on its way.
    pub goal: Option<u64>,
    /// Bytes of a write that failed as nobody was left to read.
    pub refused: Option<u64>,
    /// Bytes that the command did not want to read from its stdin.
    pub unwanted: u64,
    /// The server closed it before anything was written while it kept listening to stdout.
    pub unlistened: bool,
    /// That bytes were lost has been told.
    pub told: bool,
    /// It is reported to be stalled.
    pub stalled: Option<Stall>,
    /// Who else read from it first.
    pub taker: Option<Taker>,
    /// A scan found nobody with the server's end.
    pub unheld: bool,
}

impl Stream {
    /// `None` for what is not observed.
    pub fn new(slot: Slot, ends: &StreamEnds) -> Option<Self> {
        (ends.object != 0 && ends.transport != transport::NONE).then(|| Self {
            slot,
            object: ends.object,
            transport: ends.transport,
            counters: Counters::default(),
            sampled: 0,
            pending_since: None,
            written_at_exit: None,
            eof: false,
            writers_gone: false,
            close: None,
            packets: false,
            held: 0,
            mark: 0,
            goal: None,
            refused: None,
            unwanted: 0,
            unlistened: false,
            told: false,
            stalled: None,
            taker: None,
            unheld: false,
        })
    }

    pub fn transport(&self) -> &'static str {
        match self.transport {
            transport::PIPE => "pipe",
            transport::UNIX => "unix",
            transport::PTY => "pty",
            _ => "other",
        }
    }

    pub fn is_pty(&self) -> bool {
        self.transport == transport::PTY
    }

    /// Someone could still write what the server could still read.
    pub fn hangs(&self) -> bool {
        // The leader's exit hangs up its terminal, whoever else has it open (`disassociate_ctty`,
        // drivers/tty/tty_jobctrl.c): that never keeps a session.
        let holds = self.slot.is_output() && !self.is_pty();
        holds && !self.eof && !self.writers_gone && self.close.is_none()
    }

    /// Bytes written but not read, by the counters.
    pub fn pending(&self) -> u64 {
        let counters = &self.counters;
        counters
            .written
            .saturating_sub(counters.read.saturating_add(counters.taken))
    }

    /// A write is under way: what it has put into the object already is counted when it ends.
    pub fn is_blocked(&self) -> bool {
        self.counters.blocked_since > 0
    }

    /// Takes in an edge or a sample; `leader_gone` tells whether the leader has died before it, `heard`
    /// when the client last sent something.
    pub fn apply(&mut self, record: &tracer_ebpf::Stream, leader_gone: bool, heard: u64) {
        self.count(record.header.time, &record.counters);
        self.packets |= record.packets != 0;
        if record.mark >= self.mark && record.held != 0 {
            (self.held, self.mark) = (record.held, record.mark);
        }
        if let Some(close) = self.close
            && self.slot.is_output()
            && (close.shared || close.unseen)
            && record.counters.read > close.read
        {
            // Another copy of the server's end is still being read: that close was not the end.
            self.close = None;
        }
        match record.edge {
            edge::EOF => self.eof = true,
            edge::WRITERS_GONE => self.writers_gone = true,
            edge::SERVER_CLOSE => self.closed(record, leader_gone, heard),
            edge::TAKEN => {
                self.taker.get_or_insert(Taker {
                    pid: record.pid,
                    comm: record.comm,
                });
            }
            edge::SESSION_CLOSE => self.unwanted = record.unread,
            // Of a socket also a write of nothing is refused (`unix_stream_sendmsg`,
            // net/unix/af_unix.c).
            edge::EPIPE if self.slot.is_output() && record.bytes > 0 => {
                self.refused = Some(self.refused.unwrap_or(0).max(record.bytes));
            }
            _ => {}
        }
    }

    fn closed(&mut self, record: &tracer_ebpf::Stream, leader_gone: bool, heard: u64) {
        let close = Close {
            time: record.header.time,
            latest: record.header.time,
            unread: record.unread,
            read: record.counters.read,
            writers: record.writers,
            exiting: record.exiting != 0,
            after_leader: leader_gone,
            shared: record.refs > 1,
            unseen: false,
            unanswered: record.progress.sent > record.progress.acked,
            heard,
        };
        self.close = Some(match self.close {
            // The last copy, which some child had, went after the server's own: what was unread
            // then is what is lost, but it was the server that closed.
            Some(first) if !first.unseen => Close {
                unread: first.unread.max(close.unread),
                latest: first.latest.max(close.latest),
                shared: close.shared,
                writers: close.writers,
                ..first
            },
            _ => close,
        });
    }

    /// The server has queued so much on the connection.
    pub fn aim(&mut self, queued: u64) {
        if self.close.is_some() && queued > self.mark {
            self.goal.get_or_insert(queued);
        }
    }

    /// Nobody has the server's end, though its close was not seen.
    pub fn close_unseen(&mut self, time: u64, leader_gone: bool) {
        self.close = Some(Close {
            time,
            latest: time,
            unread: 0,
            read: self.counters.read,
            writers: 0,
            exiting: false,
            after_leader: leader_gone,
            shared: false,
            unseen: true,
            unanswered: false,
            heard: 0,
        });
    }

    /// Takes in what a record about the whole session tells of it.
    pub fn now(&mut self, time: u64, now: &StreamNow) {
        self.counters.written = self.counters.written.max(now.written);
        self.counters.read = self.counters.read.max(now.read);
        self.looked(time);
    }

    /// From when on the close can be taken for the end.
    pub fn settled_at(&self) -> Option<u64> {
        let close = self.close?;
        Some(match self.doubted_at() {
            Some(look) => look.saturating_add(NOBODY_LOOKS),
            None => close.time,
        })
    }

    /// When to look whether the close was the end.
    pub fn doubted_at(&self) -> Option<u64> {
        let close = self.close.filter(|close| close.shared)?;
        // Less and less often while somebody has it.
        let passed = close.latest.saturating_sub(close.time);
        let wait = passed.clamp(SHARED_CLOSE_SETTLES, SHARED_CLOSE_LOOKS);
        Some(close.latest.saturating_add(wait))
    }

    /// A look found that a server's process has the server's end, or that none has.
    pub fn looked_for_readers(&mut self, any: bool, now: u64) {
        if let Some(close) = &mut self.close {
            close.shared &= any;
            close.latest = close.latest.max(now);
        }
    }

    /// Since when nothing has moved although something should, if that is long enough.
    pub fn rests_since(&self, leader_exited: Option<u64>) -> Option<u64> {
        if !self.slot.is_output() || self.close.is_some() || self.eof {
            return None;
        }
        let counters = &self.counters;
        // A read that leaves a writer waiting lets it wait anew, from that moment.
        let since = if counters.blocked_since != 0 && counters.blocked_since >= counters.last_read {
            counters.blocked_since
        } else if self.pending() > 0 {
            // A job that outlives the leader may have written only now.
            leader_exited?
                .max(counters.last_read)
                .max(self.pending_since?)
        } else {
            return None;
        };
        (self.sampled.saturating_sub(since) >= STALLED_AFTER).then_some(since)
    }

    /// Records of two CPUs may tell sums in the wrong order; sums only grow.
    fn count(&mut self, time: u64, new: &Counters) {
        let old = self.counters;
        let blocked_since = if time >= self.sampled {
            new.blocked_since
        } else {
            old.blocked_since
        };
        self.counters = Counters {
            written: old.written.max(new.written),
            read: old.read.max(new.read),
            taken: old.taken.max(new.taken),
            writes: old.writes.max(new.writes),
            reads: old.reads.max(new.reads),
            first_write: old.first_write.max(new.first_write),
            last_write: old.last_write.max(new.last_write),
            first_read: old.first_read.max(new.first_read),
            last_read: old.last_read.max(new.last_read),
            blocked_since,
            high_water: old.high_water.max(new.high_water),
        };
        self.looked(time);
    }

    fn looked(&mut self, time: u64) {
        self.sampled = self.sampled.max(time);
        if self.pending() == 0 {
            self.pending_since = None;
        } else {
            self.pending_since.get_or_insert(time);
        }
    }
}
