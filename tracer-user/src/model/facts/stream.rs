//! One stream of a session: what moved through it, and how its two ends were closed.

use tracer_ebpf::{COMM_LEN, Counters, STREAMS, StreamEnds, StreamNow, edge, transport};

use crate::model::view::Slot;

/// From a close by one of several owners of the server's end to the look for the others, ns: long enough
/// for a child that was just forked to execute something and have it no more.
const SHARED_CLOSE_SETTLES: u64 = 300_000_000;
/// From one such look to the next at most, ns.
const SHARED_CLOSE_LOOKS: u64 = 10_000_000_000;
/// How long after that such a close is taken for the end though nobody could look, ns.
const NOBODY_LOOKS: u64 = 2_000_000_000;

/// The server's end of a stream.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) enum ServerEnd {
    /// Open, as far as known.
    Open,
    /// No close was seen, but the last scan found no process that has it.
    Unheld,
    /// Its close was seen.
    Closed(Close),
    /// It must be closed, though that was not seen: what was unread then is not known.
    Lost {
        /// When it was closed at the latest, ns.
        time: u64,
        /// The leader was dead by then.
        after_leader: bool,
        /// Bytes read until then.
        read: u64,
    },
}

/// A close of the server's end.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Close {
    /// When, ns.
    pub time: u64,
    /// When the last copy of it was seen to be closed, or the last look found that another process of
    /// the server has one, ns.
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
    /// Something that was sent on the connection had not been acknowledged.
    pub unanswered: bool,
    /// When the client had last sent something, ns; 0 when not known.
    pub heard: u64,
    /// The server closed it before anything was written while it kept listening to stdout.
    pub unlistened: bool,
}

/// What is known of the session's end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SessionEnd {
    Open,
    /// The last write end was released.
    Released,
    /// The server has read end-of-file.
    Eof,
}

/// A process that is no server read what the command had written.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Taker {
    pub pid: u32,
    pub comm: [u8; COMM_LEN],
}

/// See the module.
#[derive(Debug)]
pub(in crate::model) struct Stream {
    slot: Slot,
    object: u64,
    transport: u32,
    counters: Counters,
    /// When `counters` were so.
    sampled: u64,
    /// Since when there have been unread bytes at every look.
    pending_since: Option<u64>,
    /// Bytes written when the leader exited, or when the stream was first seen after that.
    written_at_exit: Option<u64>,
    server_end: ServerEnd,
    session_end: SessionEnd,
    /// Some of what was written was packets, of which short reads discard what they have no room for.
    packets: bool,
    /// Bytes that the server had read since it last wrote to its connection, as far as known.
    held: u64,
    /// What it had queued there when it read them.
    mark: u64,
    /// What it had queued there at the first look after the close that showed it had written again:
    /// once that is acknowledged, nothing of the stream is on its way.
    goal: Option<u64>,
    /// Bytes of a write that failed as nobody was left to read.
    refused: Option<u64>,
    /// Bytes that the command did not want to read from its stdin.
    unwanted: u64,
    /// Who else read from it first.
    taker: Option<Taker>,
}

/// The streams of a session that are observed. Of two outputs that are one object only the first counts.
/// The two directions of a pty have one number, but are two streams.
pub(in crate::model) fn observed(
    ends: &[StreamEnds; STREAMS],
) -> impl Iterator<Item = (Slot, &StreamEnds)> {
    Slot::ALL.into_iter().zip(ends).filter(|(slot, it)| {
        let is_stdout = *slot == Slot::Stderr && ends[Slot::Stdout as usize].object == it.object;
        it.object != 0 && it.transport != transport::NONE && !is_stdout
    })
}

/// `pipe`, `unix`, `pty` or `other`.
pub(in crate::model) const fn transport_name(transport: u32) -> &'static str {
    match transport {
        transport::PIPE => "pipe",
        transport::UNIX => "unix",
        transport::PTY => "pty",
        _ => "other",
    }
}

impl Stream {
    pub(super) fn new(slot: Slot, ends: &StreamEnds) -> Self {
        Self {
            slot,
            object: ends.object,
            transport: ends.transport,
            counters: Counters::default(),
            sampled: 0,
            pending_since: None,
            written_at_exit: None,
            server_end: ServerEnd::Open,
            session_end: SessionEnd::Open,
            packets: false,
            held: 0,
            mark: 0,
            goal: None,
            refused: None,
            unwanted: 0,
            taker: None,
        }
    }

    pub const fn slot(&self) -> Slot {
        self.slot
    }

    /// Inode number of its object.
    pub const fn object(&self) -> u64 {
        self.object
    }

    pub const fn transport(&self) -> &'static str {
        transport_name(self.transport)
    }

    pub const fn is_pty(&self) -> bool {
        self.transport == transport::PTY
    }

    /// Whether the command writes it and the server reads it.
    pub fn is_output(&self) -> bool {
        self.slot.is_output()
    }

    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// When the counters were last known, ns.
    pub const fn sampled(&self) -> u64 {
        self.sampled
    }

    /// Since when there have been unread bytes at every look, ns.
    pub const fn pending_since(&self) -> Option<u64> {
        self.pending_since
    }

    /// Bytes written since the leader exited.
    pub fn written_since_exit(&self) -> u64 {
        let before = self.written_at_exit.unwrap_or(0);
        self.counters.written.saturating_sub(before)
    }

    pub const fn server_end(&self) -> &ServerEnd {
        &self.server_end
    }

    /// The close of the server's end, if it was seen.
    pub const fn closed(&self) -> Option<&Close> {
        match &self.server_end {
            ServerEnd::Closed(close) => Some(close),
            ServerEnd::Open | ServerEnd::Unheld | ServerEnd::Lost { .. } => None,
        }
    }

    /// When the server's end was closed, be it seen or not, ns.
    pub const fn closed_at(&self) -> Option<u64> {
        match &self.server_end {
            ServerEnd::Open | ServerEnd::Unheld => None,
            ServerEnd::Closed(Close { time, .. }) | ServerEnd::Lost { time, .. } => Some(*time),
        }
    }

    /// Whether the server's end is closed, be it seen or not.
    pub const fn is_closed(&self) -> bool {
        self.closed_at().is_some()
    }

    /// Whether no close was seen, but the last scan found no process that has the server's end.
    pub const fn is_unheld(&self) -> bool {
        matches!(self.server_end, ServerEnd::Unheld)
    }

    /// Bytes that were unread when the server's end was closed; 0 where that is not known.
    pub fn unread_at_close(&self) -> u64 {
        self.closed().map_or(0, |close| close.unread)
    }

    /// Whether the server never listened to it.
    pub fn is_unlistened(&self) -> bool {
        self.closed().is_some_and(|close| close.unlistened)
    }

    /// Whether the server has read end-of-file.
    pub const fn is_eof(&self) -> bool {
        matches!(self.session_end, SessionEnd::Eof)
    }

    /// Whether somebody may still have a write end.
    pub const fn has_writers(&self) -> bool {
        matches!(self.session_end, SessionEnd::Open)
    }

    /// Someone could still write what the server could still read.
    pub fn hangs(&self) -> bool {
        // The leader's exit hangs up its terminal, whoever else has it open (`disassociate_ctty`,
        // drivers/tty/tty_jobctrl.c): that never keeps a session.
        let holds = self.is_output() && !self.is_pty();
        holds && self.has_writers() && !self.is_closed()
    }

    /// Bytes written but not read, by the counters.
    pub const fn pending(&self) -> u64 {
        let counters = &self.counters;
        counters
            .written
            .saturating_sub(counters.read.saturating_add(counters.taken))
    }

    /// A write is under way: what it has put into the object already is counted when it ends.
    pub const fn is_blocked(&self) -> bool {
        self.counters.blocked_since > 0
    }

    /// Whether some of what was written was packets (`O_DIRECT`, pipe(2)).
    pub const fn has_packets(&self) -> bool {
        self.packets
    }

    /// Bytes that the server had read since it last wrote to its connection, as far as known.
    pub const fn held(&self) -> u64 {
        self.held
    }

    /// What the server had queued on its connection when it read those, bytes.
    pub const fn mark(&self) -> u64 {
        self.mark
    }

    /// What of the connection must be acknowledged so that nothing of the stream is on its way, bytes.
    pub const fn goal(&self) -> Option<u64> {
        self.goal
    }

    /// Bytes of a write that failed as nobody was left to read.
    pub const fn refused(&self) -> Option<u64> {
        self.refused
    }

    /// Bytes that the command did not want to read from its stdin.
    pub const fn unwanted(&self) -> u64 {
        self.unwanted
    }

    /// Who else read from it first.
    pub const fn taker(&self) -> Option<&Taker> {
        self.taker.as_ref()
    }

    /// Takes in an edge or a sample.
    pub(super) fn apply(&mut self, record: &tracer_ebpf::Stream, around: &Around) {
        self.count(record.header.time, &record.counters);
        self.packets |= record.packets != 0;
        if record.mark >= self.mark && record.held != 0 {
            (self.held, self.mark) = (record.held, record.mark);
        }
        if self.is_output() && self.was_read_since(record.counters.read) {
            // Another copy of the server's end is still being read: that close was not the end.
            self.server_end = ServerEnd::Open;
        }
        match record.edge {
            edge::EOF => self.session_end = SessionEnd::Eof,
            edge::WRITERS_GONE => self.session_end = self.session_end.max(SessionEnd::Released),
            edge::SERVER_CLOSE => self.close(record, around),
            edge::TAKEN => {
                self.taker.get_or_insert(Taker {
                    pid: record.pid,
                    comm: record.comm,
                });
            }
            edge::SESSION_CLOSE => self.unwanted = record.unread,
            // Of a socket also a write of nothing is refused (`unix_stream_sendmsg`,
            // net/unix/af_unix.c).
            edge::EPIPE if self.is_output() && record.bytes > 0 => {
                self.refused = Some(self.refused.unwrap_or(0).max(record.bytes));
            }
            _ => {}
        }
    }

    /// Whether a close that need not have been the last was followed by a read; `now` is what has been
    /// read so far, bytes.
    const fn was_read_since(&self, now: u64) -> bool {
        match &self.server_end {
            ServerEnd::Closed(close) => close.shared && now > close.read,
            ServerEnd::Lost { read, .. } => now > *read,
            ServerEnd::Open | ServerEnd::Unheld => false,
        }
    }

    fn close(&mut self, record: &tracer_ebpf::Stream, around: &Around) {
        let time = record.header.time;
        let close = Close {
            time,
            latest: time,
            unread: record.unread,
            read: record.counters.read,
            writers: record.writers,
            exiting: record.exiting != 0,
            after_leader: around.leader_gone,
            shared: record.refs > 1,
            unanswered: record.progress.sent > record.progress.acked,
            heard: around.heard,
            // OpenSSH does so with the stderr of subsystems.
            unlistened: self.slot == Slot::Stderr
                && around.stdout_open
                && !around.leader_gone
                && record.exiting == 0
                && record.unread == 0
                && record.counters.written == 0,
        };
        self.server_end = ServerEnd::Closed(match self.server_end {
            // The last copy, which some child had, went after the server's own: what was unread
            // then is what is lost, but it was the server that closed.
            ServerEnd::Closed(first) => Close {
                unread: first.unread.max(close.unread),
                latest: first.latest.max(close.latest),
                shared: close.shared,
                writers: close.writers,
                ..first
            },
            ServerEnd::Lost { .. } => Close {
                unlistened: false,
                ..close
            },
            ServerEnd::Open | ServerEnd::Unheld => close,
        });
    }

    /// The server has queued so much on the connection, bytes.
    pub(super) fn queued(&mut self, queued: u64) {
        if self.is_closed() && queued > self.mark {
            self.goal.get_or_insert(queued);
        }
    }

    /// Takes in what a record about the whole session says of it.
    pub(super) fn now(&mut self, time: u64, now: &StreamNow) {
        self.counters.written = self.counters.written.max(now.written);
        self.counters.read = self.counters.read.max(now.read);
        self.looked(time);
    }

    /// The leader has died.
    pub(super) fn leader_died(&mut self) {
        self.written_at_exit.get_or_insert(self.counters.written);
    }

    /// The server's end was closed by `time`, though that was not seen.
    pub(super) const fn lost_server_end(&mut self, time: u64, after_leader: bool) {
        self.server_end = ServerEnd::Lost {
            time,
            after_leader,
            read: self.counters.read,
        };
    }

    /// A complete look found some process, or none, that has the server's end.
    pub(super) const fn looked_for_server_end(&mut self, any: bool) {
        match (&self.server_end, any) {
            (ServerEnd::Open, false) => self.server_end = ServerEnd::Unheld,
            (ServerEnd::Unheld, true) => self.server_end = ServerEnd::Open,
            _ => {}
        }
    }

    /// A complete look found that a process of the server has the server's end, or that none has.
    pub(super) fn looked_for_readers(&mut self, any: bool, now: u64) {
        if let ServerEnd::Closed(close) = &mut self.server_end {
            close.shared &= any;
            close.latest = close.latest.max(now);
        }
    }

    /// From when on the close can be taken for the end, ns.
    pub fn settled_at(&self) -> Option<u64> {
        match self.doubted_at() {
            Some(look) => Some(look.saturating_add(NOBODY_LOOKS)),
            None => self.closed_at(),
        }
    }

    /// When to look whether the close was the end, ns.
    pub fn doubted_at(&self) -> Option<u64> {
        let close = self.closed().filter(|close| close.shared)?;
        // Less and less often while somebody has it.
        let passed = close.latest.saturating_sub(close.time);
        let wait = passed.clamp(SHARED_CLOSE_SETTLES, SHARED_CLOSE_LOOKS);
        Some(close.latest.saturating_add(wait))
    }

    /// Records of two CPUs may arrive in the wrong order; sums only grow.
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

/// What else was known when a record of a stream arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around {
    /// The leader has died.
    pub leader_gone: bool,
    /// The server still listens to stdout.
    pub stdout_open: bool,
    /// When the client last sent something, ns; 0 when not known.
    pub heard: u64,
}
