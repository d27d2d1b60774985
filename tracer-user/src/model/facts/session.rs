//! One session: how each record changes what is known of it.

use std::sync::Arc;

use tracer_ebpf::{
    Chld, Conn, ConnectionSiblings, Exec, Exit, Fork, Passed, Proc, Progress, STREAMS,
    SessionStart, Signal, StreamEnds, StreamNow, edge, role, transport,
};

use super::{
    argv::Argv,
    connection::Connection,
    env::Env,
    handover::Handovers,
    hangup::Hangup,
    lineage::Tree,
    scan::{Copy, Look},
    server::Server,
    shell::shell_line,
    stream::{Around, Stream, observed},
};
use crate::model::view::{ExitStatus, GapReason, SessionId, SessionView, Slot, Stage, Visible};

/// Most sessions kept at once: as many as the kernel side keeps.
pub(in crate::model) const MAX_SESSIONS: usize = 32_768;
/// A stream has seven edges at most before samples of it are taken.
const MAX_EARLY_EDGES: usize = 16;
/// Most processes kept that the hangup of the terminal killed.
const MAX_HANGUPS: usize = 64;
const SIGHUP: u8 = 1;

/// The server learned of the leader's death, from the kernel or by wait(2).
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Notice {
    /// When, ns.
    pub time: u64,
    /// Unread bytes of each stream then.
    pub unread: [u64; STREAMS],
}

/// See the module.
#[derive(Debug)]
pub(in crate::model) struct Session {
    view: Arc<SessionView>,
    leader: Proc,
    /// When the leader had died at the latest, ns.
    leader_gone: Option<u64>,
    /// How far the news of the leader's death has come, by [`Stage`].
    notices: [Option<Notice>; Stage::ALL.len()],
    server: Server,
    connection: Connection,
    tree: Tree,
    streams: [Option<Stream>; STREAMS],
    /// Members that the hangup of the terminal killed before they had read their input.
    hangups: Vec<Hangup>,
    handovers: Handovers,
    gaps: Vec<GapReason>,
    beginning: Beginning,
    /// It ended while no tracer ran.
    vanished: bool,
    /// Scans found processes that kept it open for longer than the grace period.
    was_held: bool,
    /// Time of the last record that is no sample, ns.
    last: u64,
}

/// How much of a session's beginning was seen.
#[derive(Debug)]
enum Beginning {
    Seen,
    /// Nothing: it is reported only if records were lost.
    Unseen {
        /// What its server did to its streams before its start arrived: on another CPU than the leader's,
        /// that may be in the ring first.
        edges: Vec<tracer_ebpf::Stream>,
    },
}

impl Session {
    pub fn new(record: &SessionStart, tree: Tree, user: Option<&Visible>, env: &Env) -> Self {
        let preexisting = record.preexisting != 0;
        let view = SessionView {
            user: user.cloned(),
            ..SessionView::of(record)
        };
        let mut session = Self::empty(view, record.leader, tree, record.header.time);
        session.server = Server::new(record.server);
        session.connection = Connection::new(record.conn, record.progress);
        for (slot, ends) in observed(&record.streams) {
            session.streams[slot as usize] = Some(Stream::new(slot, ends));
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
        session.beginning = Beginning::Unseen { edges: Vec::new() };
        session.gap(GapReason::LostRecords);
        session
    }

    fn empty(view: SessionView, leader: Proc, tree: Tree, time: u64) -> Self {
        Self {
            view: Arc::new(view),
            leader,
            leader_gone: None,
            notices: [None; Stage::ALL.len()],
            server: Server::default(),
            connection: Connection::default(),
            tree,
            streams: [None, None, None],
            hangups: Vec::new(),
            handovers: Handovers::default(),
            gaps: Vec::new(),
            beginning: Beginning::Seen,
            vanished: false,
            was_held: false,
            last: time,
        }
    }

    pub const fn view(&self) -> &Arc<SessionView> {
        &self.view
    }

    pub fn id(&self) -> SessionId {
        self.view.id
    }

    /// When the leader had died at the latest, ns.
    pub const fn leader_gone(&self) -> Option<u64> {
        self.leader_gone
    }

    pub const fn server(&self) -> &Server {
        &self.server
    }

    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    pub const fn tree(&self) -> &Tree {
        &self.tree
    }

    pub const fn handovers(&self) -> &Handovers {
        &self.handovers
    }

    pub fn hangups(&self) -> &[Hangup] {
        &self.hangups
    }

    pub fn gaps(&self) -> &[GapReason] {
        &self.gaps
    }

    /// Whether it ended while no tracer ran.
    pub const fn has_vanished(&self) -> bool {
        self.vanished
    }

    /// Whether processes kept it open for longer than the grace period.
    pub const fn was_held(&self) -> bool {
        self.was_held
    }

    /// Time of the last record that is no sample, ns.
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// Whether its start was not seen.
    pub const fn is_stub(&self) -> bool {
        matches!(self.beginning, Beginning::Unseen { .. })
    }

    /// Edges that arrived before its start.
    pub fn take_early_edges(&mut self) -> Vec<tracer_ebpf::Stream> {
        match &mut self.beginning {
            Beginning::Seen => Vec::new(),
            Beginning::Unseen { edges } => std::mem::take(edges),
        }
    }

    /// Its observed stdout and stderr.
    pub fn outputs(&self) -> impl Iterator<Item = &Stream> {
        self.observed().filter(|stream| stream.is_output())
    }

    /// Its observed streams.
    pub fn observed(&self) -> impl Iterator<Item = &Stream> {
        self.streams.iter().flatten()
    }

    pub const fn stream(&self, slot: Slot) -> Option<&Stream> {
        self.streams[slot as usize].as_ref()
    }

    /// The latest moment at which the server learned of the leader's death.
    pub fn notice(&self) -> Option<Notice> {
        Stage::BY_WEIGHT
            .iter()
            .find_map(|stage| self.notices[*stage as usize])
    }

    /// When the server reaped the leader, as far as known, ns.
    pub fn reaped(&self) -> Option<u64> {
        self.notices[Stage::Reaped as usize].map(|notice| notice.time)
    }

    /// Whether it is of this user, whose name it does not have.
    pub fn is_nameless(&self, uid: u32) -> bool {
        self.view.uid == Some(uid) && self.view.user.is_none()
    }

    pub fn gap(&mut self, reason: GapReason) {
        if !self.gaps.contains(&reason) {
            self.gaps.push(reason);
        }
    }

    pub fn named(&mut self, name: &Visible) {
        Arc::make_mut(&mut self.view).user = Some(name.clone());
    }

    /// It ended while no tracer ran.
    pub const fn vanish(&mut self) {
        self.vanished = true;
    }

    /// Scans found processes that keep it open for longer than the grace period.
    pub const fn held(&mut self) {
        self.was_held = true;
    }

    /// Something of it lasted until `time`, ns.
    pub fn lasted(&mut self, time: u64) {
        self.last = self.last.max(time);
    }

    /// How many more processes its tree may keep.
    pub const fn make_room(&mut self, processes: usize) {
        self.tree.room = processes;
    }

    pub fn fork(&mut self, record: &Fork) {
        self.tree.fork(record.parent, record.child, record.comm);
    }

    /// A member executed something, or was there before the tracer.
    pub fn exec(&mut self, record: &Exec) -> Arc<Argv> {
        let argv = Arc::new(Argv::of(record));
        if self.leader.pid == 0 && record.flags & role::LEADER != 0 {
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
        if record.flags & role::EXITED != 0 {
            self.tree.exit(record.proc);
            if record.proc == self.leader {
                self.leader_died(record.header.time);
            }
        }
        argv
    }

    /// A member exited. True when it was the leader.
    pub fn exit(&mut self, record: &Exit) -> bool {
        let time = record.header.time;
        // What outlives a terminal and its leader, as tmux and its panes do, is no part of the session.
        let is_closed_terminal = |stream: &Stream| stream.is_pty() && stream.is_closed();
        if self.leader_gone.is_none() || !self.outputs().any(is_closed_terminal) {
            self.lasted(time);
        }
        let is_leader =
            record.proc == self.leader || self.leader.pid == 0 && record.flags & role::LEADER != 0;
        if !is_leader {
            self.hung_up(record);
        }
        self.tree.exit(record.proc);
        if is_leader {
            let view = Arc::make_mut(&mut self.view);
            view.exit = Some(ExitStatus::of_wait(record.status));
            view.exited = Some(time);
            self.now(time, &record.streams);
            self.leader_died(time);
        }
        is_leader
    }

    /// A member died of the terminal's hangup.
    fn hung_up(&mut self, record: &Exit) {
        let on_pty = self.outputs().any(Stream::is_pty);
        let killed = ExitStatus::of_wait(record.status) == ExitStatus::Signal(SIGHUP);
        if on_pty && killed && self.hangups.len() < MAX_HANGUPS {
            let stdout = &record.stdout;
            let on_another_terminal = stdout.transport == transport::PTY
                && !self.outputs().any(|it| it.object() == stdout.object);
            let (path, _) = self.tree.path(record.proc, false);
            self.hangups.push(Hangup {
                on_another_terminal,
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
        let Some(stage) = Stage::of(record.stage) else {
            return;
        };
        let time = record.header.time;
        self.lasted(time);
        let unread = record.streams.map(|stream| stream.unread);
        self.notices[stage as usize].get_or_insert(Notice { time, unread });
        self.now(time, &record.streams);
        self.leader_died(time);
    }

    pub fn edge(&mut self, record: &tracer_ebpf::Stream) {
        if let Beginning::Unseen { edges } = &mut self.beginning {
            if edges.len() < MAX_EARLY_EDGES {
                edges.push(*record);
            }
            self.add_stream(record);
        }
        if record.edge != edge::SAMPLE {
            self.lasted(record.header.time);
        }
        let around = Around {
            leader_gone: self.leader_gone.is_some(),
            stdout_open: self
                .stream(Slot::Stdout)
                .is_some_and(|stdout| !stdout.is_closed()),
            heard: record.progress.heard.max(self.connection.heard()),
        };
        let stream = self.streams.get_mut(record.slot as usize);
        if let Some(stream) = stream.and_then(Option::as_mut)
            && stream.object() == record.object
        {
            stream.apply(record, &around);
            self.progressed(record.progress);
        }
    }

    /// Adds a stream that is known by its edges alone.
    fn add_stream(&mut self, record: &tracer_ebpf::Stream) {
        let ends = StreamEnds {
            object: record.object,
            transport: transport::PIPE,
            capacity: 0,
        };
        if let Some(slot) = Slot::of(record.slot)
            && let place @ None = &mut self.streams[slot as usize]
            && record.object != 0
        {
            *place = Some(Stream::new(slot, &ends));
        }
    }

    /// The connection has come so far.
    pub fn progressed(&mut self, progress: Progress) {
        self.connection.progressed(progress);
        let queued = self.connection.queued();
        for stream in self.streams.iter_mut().flatten() {
            stream.queued(queued);
        }
    }

    pub fn conn(&mut self, record: &Conn) {
        if record.conn.sock == self.connection.sock() {
            self.progressed(record.progress);
            self.connection.changed(record);
        }
    }

    /// How many sessions of its connection are followed elsewhere.
    pub const fn siblings(&mut self, record: &ConnectionSiblings) {
        self.connection.shared_with(record.others);
    }

    pub fn passed(&mut self, record: &Passed) {
        self.handovers.add(record);
    }

    pub const fn server_signal(&mut self, record: &Signal) {
        self.server.signalled(record);
    }

    pub fn server_exited(&mut self, record: &Exit) {
        self.server.exited(record);
    }

    /// The leader has died, at `time` at the latest.
    pub fn leader_died(&mut self, time: u64) {
        self.leader_gone.get_or_insert(time);
        for stream in self.streams.iter_mut().flatten() {
            stream.leader_died();
        }
    }

    /// The server's end of a stream was closed by `time`, though that was not seen.
    pub const fn lost_server_end(&mut self, slot: Slot, time: u64) {
        let after_leader = self.leader_gone.is_some();
        if let Some(stream) = &mut self.streams[slot as usize] {
            stream.lost_server_end(time, after_leader);
        }
    }

    /// A scan says which processes of the server have copies of its ends: those that may still read.
    pub fn looked_for_readers(&mut self, look: &Look<'_>) {
        let server = self.server.proc();
        self.each_looked(look, |stream, copies| {
            let reads = |copy: &&Copy| copy.is_server_end() && look.is_server(copy, server);
            stream.looked_for_readers(copies.iter().any(reads), look.now);
        });
    }

    /// A scan says whether any process has the server's ends.
    pub fn looked_for_server_ends(&mut self, look: &Look<'_>) {
        self.each_looked(look, |stream, copies| {
            stream.looked_for_server_end(copies.iter().any(|copy| copy.is_server_end()));
        });
    }

    /// Shows each stream the copies of its ends, if the look could see them all.
    fn each_looked(&mut self, look: &Look<'_>, action: impl Fn(&mut Stream, &[&Copy])) {
        if look.partial {
            return;
        }
        for stream in self.streams.iter_mut().flatten() {
            let slot = stream.slot();
            let copies: Vec<&Copy> = look
                .copies
                .iter()
                .filter(|copy| copy.slot == slot)
                .collect();
            action(stream, &copies);
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
