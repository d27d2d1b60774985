//! What is known of one session, and how each record changes it. Nothing is concluded here.

use std::sync::Arc;

use tracer_ebpf::{
    Chld, Conn, ConnId, Exec, Exit, Fork, Proc, Progress, STREAMS, SessionStart, Signal,
    StreamEnds, StreamNow, chld, edge, transport,
};

use super::{
    Env,
    delivery::Delivery,
    escape::{Visible, shell_line},
    handover::Handovers,
    lineage::{Argv, Tree},
    orphan::Watch,
    stream::Stream,
    view::{ExitStatus, GapReason, SessionId, SessionView, Slot},
    waiting::Linger,
};

const TCP_ESTABLISHED: u32 = 1;
const TCP_FIN_WAIT1: u32 = 4;
const TCP_CLOSE: u32 = 7;
const TCP_CLOSE_WAIT: u32 = 8;
/// Errors of a connection that its peer did not cause: ENETUNREACH, ETIMEDOUT, EHOSTUNREACH.
const UNREACHED: [u32; 3] = [101, 110, 113];
/// A server that outlives a signal by this was not ended by it, ns.
const SIGNAL_KILLS_WITHIN: u64 = 10_000_000_000;
const SIGPIPE: u32 = 13;
const SIGHUP: u8 = 1;

/// The server was told of the leader's death.
#[derive(Clone, Copy, Debug)]
pub(super) struct News {
    pub time: u64,
    /// Unread bytes of each stream then.
    pub unread: [u64; STREAMS],
}

/// The connection ended before the server ended it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerLeft {
    pub time: u64,
    /// The peer did not leave but stopped answering.
    pub unreached: bool,
}

/// Someone sent the server a signal that ends processes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Killer {
    pub time: u64,
    pub signal: u32,
    pub pid: u32,
    pub comm: [u8; tracer_ebpf::COMM_LEN],
}

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    pub view: Arc<SessionView>,
    pub leader: Proc,
    pub server: Proc,
    pub conn: ConnId,
    /// Sessions on its connection that are not told of here.
    pub company: u32,
    pub delivery: Delivery,
    pub tree: Tree,
    pub streams: [Option<Stream>; STREAMS],
    /// By stage: generated, delivered, reaped.
    pub news: [Option<News>; 3],
    /// When the leader had died at the latest.
    pub leader_gone: Option<u64>,
    pub peer_left: Option<PeerLeft>,
    server_hung_up: bool,
    /// When the connection began to end.
    pub conn_ended: Option<u64>,
    pub killer: Option<Killer>,
    /// When the server exited, and its status as of wait(2).
    pub server_exit: Option<(u64, u32)>,
    /// Members that the hangup of the terminal killed before they had read their input.
    pub hangups: Vec<Hangup>,
    pub gaps: Vec<GapReason>,
    pub watch: Watch,
    pub handovers: Handovers,
    pub linger: Linger,
    pub told_opened: bool,
    /// Its start was not seen; it is told of only if records were lost.
    pub stub: bool,
    /// It ended while no tracer ran.
    pub gone: bool,
    /// What its server did to its streams before its start was told: on another CPU than the
    /// leader's, that may be in the ring first.
    pub early: Vec<tracer_ebpf::Stream>,
    /// Time of the last record that is no sample.
    pub last: u64,
    /// The timer that is set for it.
    pub timer: Option<u64>,
}

/// A process that the hangup of its terminal killed.
#[derive(Debug)]
pub(super) struct Hangup {
    pub time: u64,
    pub pid: u32,
    pub comm: Visible,
    /// Inode number of the pipe that was its stdin; 0 for anything else.
    pub stdin: u64,
    /// Bytes left in it.
    pub unread: u64,
    /// The pipe or terminal that was its stdout.
    pub stdout: StreamEnds,
    /// Its stdout was a terminal that is not the session's, such as a pane of tmux or screen.
    pub on_another_terminal: bool,
    /// Pids from the leader to it.
    pub ancestors: Vec<u32>,
}

/// A stream has seven edges at most before samples of it are taken.
const MAX_EARLY_EDGES: usize = 16;
/// So many are kept at most.
const MAX_HANGUPS: usize = 64;

impl Session {
    pub fn new(record: &SessionStart, tree: Tree, user: Option<&Visible>, env: &Env) -> Self {
        let preexisting = record.preexisting != 0;
        let time = record.header.time;
        let view = SessionView {
            user: user.cloned(),
            ..SessionView::of(record)
        };
        let mut session = Self::empty(view, record.leader, tree, time);
        session.server = record.server;
        session.conn = record.conn;
        session.delivery = Delivery::new(record.progress);
        for (at, slot) in [Slot::Stdin, Slot::Stdout, Slot::Stderr]
            .into_iter()
            .enumerate()
        {
            let ends = &record.streams[at];
            // Of two outputs that are one object only the first is told of. The two directions of
            // a pty have one number, but are two streams.
            if !record.streams[at.min(1)..at]
                .iter()
                .any(|other| other.object == ends.object)
            {
                session.streams[at] = Stream::new(slot, ends);
            }
        }
        if preexisting {
            session.gap(GapReason::Preexisting);
            if record.leader.pid == 0 {
                session.leader_gone = Some(env.started);
            }
        }
        if session.outputs().next().is_none() {
            session.gap(GapReason::NotObserved);
        }
        session
    }

    /// A session whose start was not seen.
    pub fn unknown(id: SessionId, time: u64) -> Self {
        let view = SessionView {
            id,
            user: None,
            uid: None,
            peer: None,
            local: None,
            server_exe: Visible::default(),
            server_owner: None,
            server_pid: 0,
            command: None,
            leader_pid: id.pid(),
            exit: None,
            exited: None,
            opened: time,
            preexisting: false,
        };
        let mut session = Self::empty(view, Proc::default(), Tree::default(), time);
        session.stub = true;
        session.gap(GapReason::LostRecords);
        session
    }

    fn empty(view: SessionView, leader: Proc, tree: Tree, time: u64) -> Self {
        Self {
            view: Arc::new(view),
            leader,
            server: Proc::default(),
            conn: ConnId::default(),
            company: 0,
            delivery: Delivery::default(),
            tree,
            streams: [None, None, None],
            news: [None; 3],
            leader_gone: None,
            peer_left: None,
            server_hung_up: false,
            conn_ended: None,
            killer: None,
            server_exit: None,
            hangups: Vec::new(),
            gaps: Vec::new(),
            watch: Watch::default(),
            handovers: Handovers::default(),
            linger: Linger::default(),
            told_opened: false,
            stub: false,
            gone: false,
            early: Vec::new(),
            last: time,
            timer: None,
        }
    }

    /// Its observed stdout and stderr.
    pub fn outputs(&self) -> impl Iterator<Item = &Stream> {
        self.streams
            .iter()
            .flatten()
            .filter(|stream| stream.slot.is_output())
    }

    /// Its observed streams.
    pub fn observed(&self) -> impl Iterator<Item = &Stream> {
        self.streams.iter().flatten()
    }

    pub fn observed_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.streams.iter_mut().flatten()
    }

    pub fn gap(&mut self, reason: GapReason) {
        if !self.gaps.contains(&reason) {
            self.gaps.push(reason);
        }
    }

    pub fn named(&mut self, name: &Visible) {
        Arc::make_mut(&mut self.view).user = Some(name.clone());
    }

    pub fn fork(&mut self, record: &Fork) {
        self.tree.fork(record.parent, record.child, record.comm);
    }

    /// A member executed something, or was there before the tracer.
    pub fn exec(&mut self, record: &Exec) -> Arc<Argv> {
        let argv = Arc::new(Argv::of(record));
        if self.leader.pid == 0 && record.flags & tracer_ebpf::role::LEADER != 0 {
            self.leader = record.proc;
        }
        if record.proc == self.leader && self.view.command.is_none() {
            let words = argv.words();
            let command = match words.is_empty() {
                true => Visible::field(&record.exe),
                false => Visible::new(shell_line(words.iter(), argv.cut).as_bytes()),
            };
            let view = Arc::make_mut(&mut self.view);
            view.command = Some(command);
            view.uid = Some(record.uid);
        }
        self.tree
            .exec(record.proc, record.parent, record.comm, Arc::clone(&argv));
        if record.flags & tracer_ebpf::role::EXITED != 0 {
            self.tree.exit(record.proc);
            if record.proc == self.leader {
                self.dead(record.header.time);
            }
        }
        argv
    }

    pub fn exit(&mut self, record: &Exit) {
        // What outlives a terminal and its leader, as tmux and its panes do, is no part of the session.
        let is_closed_terminal = |stream: &Stream| stream.is_pty() && stream.close.is_some();
        if self.leader_gone.is_none() || !self.outputs().any(is_closed_terminal) {
            self.last = self.last.max(record.header.time);
        }
        let is_leader = record.proc == self.leader
            || self.leader.pid == 0 && record.flags & tracer_ebpf::role::LEADER != 0;
        if !is_leader {
            self.hung_up(record);
        }
        self.tree.exit(record.proc);
        if is_leader {
            let time = record.header.time;
            let view = Arc::make_mut(&mut self.view);
            view.exit = Some(ExitStatus::of_wait(record.status));
            view.exited = Some(time);
            self.now(time, &record.streams);
            self.dead(time);
        } else {
            self.watch.member_exited(record.header.time);
        }
    }

    /// A member died of the terminal's hangup.
    fn hung_up(&mut self, record: &Exit) {
        let on_pty = self.outputs().any(Stream::is_pty);
        let killed = ExitStatus::of_wait(record.status) == ExitStatus::Signal(SIGHUP);
        if on_pty && killed && self.hangups.len() < MAX_HANGUPS {
            let stdout = &record.stdout;
            let on_another = stdout.transport == transport::PTY
                && !self.outputs().any(|it| it.object == stdout.object);
            let (path, _) = self.tree.path(record.proc, false);
            self.hangups.push(Hangup {
                on_another_terminal: on_another,
                ancestors: path.iter().map(|step| step.pid).collect(),
                time: record.header.time,
                pid: record.proc.pid,
                comm: Visible::field(self.tree.comm(record.proc)),
                stdin: record.stdin_object,
                unread: record.stdin_unread,
                stdout: record.stdout,
            });
        }
    }

    pub fn chld(&mut self, record: &Chld) {
        let at = match record.stage {
            chld::GENERATED => 0,
            chld::DELIVERED => 1,
            chld::REAPED => 2,
            _ => return,
        };
        let time = record.header.time;
        self.last = self.last.max(time);
        let unread = record.streams.map(|stream| stream.unread);
        self.news[at].get_or_insert(News { time, unread });
        self.now(time, &record.streams);
        self.dead(time);
    }

    /// The latest moment at which the server was told of the leader's death.
    pub fn told_server(&self) -> Option<News> {
        // Delivery counts; a server that waits on a signalfd or in wait(2) is never delivered one.
        self.news[1].or(self.news[2]).or(self.news[0])
    }

    /// When the server reaped the leader, as far as known.
    pub fn reaped(&self) -> Option<u64> {
        self.news[2].map(|news| news.time)
    }

    pub fn stream(&mut self, record: &tracer_ebpf::Stream) {
        if self.stub && self.early.len() < MAX_EARLY_EDGES {
            self.early.push(*record);
        }
        if record.edge != edge::SAMPLE {
            self.last = self.last.max(record.header.time);
        }
        let leader_gone = self.leader_gone.is_some();
        let stdout_open = self.streams[1]
            .as_ref()
            .is_some_and(|stdout| stdout.close.is_none());
        let Some(place) = self.streams.get_mut(record.slot as usize) else {
            return;
        };
        if self.stub && place.is_none() {
            let ends = StreamEnds {
                object: record.object,
                transport: transport::PIPE,
                capacity: 0,
            };
            *place = Slot::of(record.slot).and_then(|slot| Stream::new(slot, &ends));
        }
        let Some(stream) = place else { return };
        if record.object != stream.object {
            return;
        }
        let was_open = stream.close.is_none();
        let heard = record.progress.heard.max(self.delivery.heard());
        stream.apply(record, leader_gone, heard);
        if record.edge == edge::SERVER_CLOSE && was_open {
            // OpenSSH does so with the stderr of subsystems.
            stream.unlistened = stream.slot == Slot::Stderr
                && stdout_open
                && !leader_gone
                && record.exiting == 0
                && record.unread == 0
                && record.counters.written == 0;
        }
        if self.watch.is_told() && !stream.hangs() {
            self.watch.ask(record.header.time);
        }
        self.progressed(record.progress);
    }

    /// The connection has come so far.
    pub fn progressed(&mut self, progress: Progress) {
        self.delivery.saw(progress);
        let queued = self.delivery.queued();
        for stream in self.streams.iter_mut().flatten() {
            stream.aim(queued);
        }
    }

    pub fn conn(&mut self, record: &Conn) {
        if record.conn.sock != self.conn.sock {
            return;
        }
        self.progressed(record.progress);
        if record.new != TCP_ESTABLISHED {
            self.conn_ended.get_or_insert(record.header.time);
        }
        self.delivery.state(record.new);
        let unreached = UNREACHED.contains(&record.error);
        let left = match record.new {
            TCP_FIN_WAIT1 => {
                self.server_hung_up = true;
                false
            }
            TCP_CLOSE_WAIT => true,
            TCP_CLOSE => record.error != 0,
            _ => false,
        };
        if left && self.peer_left.is_none() && (unreached || !self.server_hung_up) {
            self.peer_left = Some(PeerLeft {
                time: record.header.time,
                unreached,
            });
        }
    }

    pub fn server_signal(&mut self, record: &Signal) {
        // Writing to a client that left is an error to servers, not their end.
        if record.signal != SIGPIPE {
            self.killer = Some(Killer {
                time: record.header.time,
                signal: record.signal,
                pid: record.sender,
                comm: record.comm,
            });
        }
    }

    pub fn server_exited(&mut self, record: &Exit) {
        self.server_exit
            .get_or_insert((record.header.time, record.status));
    }

    /// Whether the peer had left before `time`.
    pub fn left_before(&self, time: u64) -> Option<PeerLeft> {
        self.peer_left.filter(|left| left.time <= time)
    }

    /// Who ended the server that ended at `time`, if a signal did.
    pub fn killed_before(&self, time: u64) -> Option<Killer> {
        let by_status =
            self.server_exit
                .and_then(|(_, status)| match ExitStatus::of_wait(status) {
                    ExitStatus::Signal(signal) => Some(u32::from(signal)),
                    ExitStatus::Code(_) => None,
                });
        let sent = self
            .killer
            .filter(|killer| killer.time <= time && time - killer.time <= SIGNAL_KILLS_WITHIN);
        match (sent, by_status) {
            (Some(killer), _) => Some(killer),
            (None, Some(signal)) => Some(Killer {
                time,
                signal,
                pid: 0,
                comm: Default::default(),
            }),
            (None, None) => None,
        }
    }

    pub fn dead(&mut self, time: u64) {
        self.leader_gone.get_or_insert(time);
        for stream in self.streams.iter_mut().flatten() {
            let written = stream.counters.written;
            stream.written_at_exit.get_or_insert(written);
        }
    }

    fn now(&mut self, time: u64, streams: &[StreamNow; STREAMS]) {
        for (stream, now) in self.streams.iter_mut().zip(streams) {
            if let Some(stream) = stream {
                stream.now(time, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_session_is_small() {
        // Beside it: its view, and some 100 bytes and the arguments for each living process.
        let size = size_of::<Session>() + size_of::<SessionView>();
        assert!(size < 2048, "{size} bytes");
    }
}
