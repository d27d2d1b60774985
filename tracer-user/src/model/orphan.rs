//! Who keeps a session open after its leader: when to look, and what the look told.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tracer_ebpf::{COMM_LEN, Cgroup, Holder, Proc, Socket, via};

use super::{
    Env,
    container::Container,
    escape::Visible,
    handover::Sight,
    lineage::Argv,
    message,
    peers::Servers,
    session::Session,
    view::{Finding, HolderView, Kind, Origin, Slot, State, Step, Update},
    waiting,
};

/// From one look to the next while someone holds a stream, ns.
const RESCAN: u64 = 250_000_000;
/// The same while a stream is open and nobody seems to hold it, ns.
const RESCAN_UNHELD: u64 = 1_000_000_000;
/// The same when only the server still has something open, or records were lost, ns.
const RESCAN_IDLE: u64 = 10_000_000_000;
/// From a member's exit record to its descriptors being closed, ns.
const EXIT_TAKES: u64 = 10_000_000;
/// How old a process must be to hold something of its own, ns, unless it has executed something:
/// from fork to exec every child has what its parent has, and gives up most of it.
const GROWN_UP: u64 = 50_000_000;
/// Most copies of one session's ends that are looked at in one scan.
const MAX_COPIES: usize = 4096;
/// Most copies of all sessions' ends that are looked at in one scan.
const MAX_ALL_COPIES: usize = 262_144;
/// Most sockets that are looked at in one scan.
const MAX_SOCKETS: usize = 65_536;

const READ: u32 = 1;
const WRITE: u32 = 2;

/// When to look for a session's holders, and who they were at the last look.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// When the next look is due.
    pub due: Option<u64>,
    /// When the last look was complete.
    pub looked: Option<u64>,
    hung: bool,
    told: Vec<HolderView>,
    /// Those of them that descend from no other, when a line was last worth reading.
    named: Vec<HolderView>,
    /// The same at the last look.
    roots: Option<Vec<HolderView>>,
    /// Holders of the last look that are no members. A process that the server is forking right
    /// now, or whose fork record is on its way, looks like one for a moment.
    strangers: BTreeSet<Proc>,
}

impl Watch {
    /// Whether holders have ever kept the session open for long.
    pub fn has_hung(&self) -> bool {
        self.hung
    }

    /// Whether holders have been told.
    pub fn is_told(&self) -> bool {
        !self.told.is_empty()
    }

    /// Asks for a look at `time` or earlier.
    pub fn ask(&mut self, time: u64) {
        self.due = Some(self.due.map_or(time, |due| due.min(time)));
    }

    pub fn member_exited(&mut self, time: u64) {
        if self.is_told() {
            self.ask(time.saturating_add(EXIT_TAKES));
        }
    }

    /// Whether a look is wanted.
    pub fn is_due(&self, now: u64) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Whether a look that happens now serves this session. One that will be due soon joins in.
    pub fn joins(&self, now: u64) -> bool {
        let slack = if self.looked.is_some() { RESCAN } else { 0 };
        self.due.is_some_and(|due| due <= now.saturating_add(slack))
    }
}

/// What a scan tells of a process beside what it has open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub ns_pid: u32,
    pub uid: u32,
    pub comm: [u8; COMM_LEN],
}

/// One copy found by a scan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copy {
    proc: Proc,
    seen: Seen,
    fd: u32,
    via: u32,
    slot: Slot,
    mode: u32,
    file: u64,
    /// The descriptor table that it is found in; 0 when not known.
    table: u64,
}

impl Copy {
    pub fn of(record: &Holder) -> Option<Self> {
        Some(Self {
            proc: record.proc,
            seen: Seen {
                ns_pid: record.ns_pid,
                uid: record.uid,
                comm: record.comm,
            },
            fd: record.fd,
            via: record.via,
            slot: Slot::of(record.slot)?,
            mode: record.mode,
            file: record.file,
            table: record.files,
        })
    }

    fn is_server_end(&self) -> bool {
        self.mode & if self.slot.is_output() { READ } else { WRITE } != 0
    }

    fn is_session_end(&self) -> bool {
        self.mode & if self.slot.is_output() { WRITE } else { READ } != 0
    }
}

/// Copies of one session's ends.
#[derive(Debug, Default)]
struct Copies {
    found: Vec<Copy>,
    /// There are more. Among them may be any, the server's too.
    cut: bool,
}

/// A scan under way: what it found, for the sessions that it is made for.
#[derive(Debug, Default)]
pub(super) struct Scan {
    copies: BTreeMap<u64, Copies>,
    /// How many there are of all sessions.
    all_copies: usize,
    /// Arguments of processes that are no members, told during the scan.
    strangers: BTreeMap<Proc, Argv>,
    containers: BTreeMap<Proc, Container>,
    /// What connections may be kept open for.
    pub sockets: Vec<Socket>,
    /// Pids of the parents of those who have them.
    parents: HashMap<u32, u32>,
}

impl Scan {
    pub fn of(sessions: impl Iterator<Item = u64>) -> Self {
        Self {
            copies: sessions.map(|id| (id, Copies::default())).collect(),
            all_copies: 0,
            strangers: BTreeMap::new(),
            containers: BTreeMap::new(),
            sockets: Vec::new(),
            parents: HashMap::new(),
        }
    }

    pub fn add(&mut self, record: &Holder) {
        if let Some(copies) = self.copies.get_mut(&record.session)
            && let Some(copy) = Copy::of(record)
        {
            if copies.found.len() < MAX_COPIES && self.all_copies < MAX_ALL_COPIES {
                self.all_copies += 1;
                copies.found.push(copy);
            } else {
                copies.cut = true;
            }
        }
    }

    /// The sessions that it is made for.
    pub fn sessions(&self) -> impl Iterator<Item = u64> {
        self.copies.keys().copied()
    }

    /// Whether it is made for a session.
    pub fn is_for(&self, session: u64) -> bool {
        self.copies.contains_key(&session)
    }

    /// Pid of the parent of a process that has sockets.
    pub fn parent(&self, pid: u32) -> Option<u32> {
        self.parents.get(&pid).copied()
    }

    /// Processes that were found to have ends of a session's streams, each once.
    pub fn holders_of(&self, session: u64) -> impl Iterator<Item = Proc> {
        let copies = self.copies.get(&session);
        let procs = copies.into_iter().flat_map(|copies| &copies.found);
        procs
            .map(|copy| copy.proc)
            .collect::<BTreeSet<_>>()
            .into_iter()
    }

    pub fn socket(&mut self, record: &Socket) {
        if self.sockets.len() < MAX_SOCKETS {
            self.sockets.push(*record);
            self.parents.insert(record.proc.pid, record.parent);
        }
    }

    pub fn stranger(&mut self, proc: Proc, argv: Argv) {
        if self.strangers.len() < MAX_COPIES {
            self.strangers.insert(proc, argv);
        }
    }

    pub fn cgroup(&mut self, record: &Cgroup) {
        let len = (record.len as usize).min(record.path.len());
        if self.containers.len() < MAX_COPIES
            && let Some(container) = Container::of(&record.path[..len])
        {
            self.containers.insert(record.proc, container);
        }
    }

    /// By session: copies of its ends, and whether these are not all.
    pub fn copies(&self) -> impl Iterator<Item = (u64, &[Copy], bool)> {
        self.copies
            .iter()
            .map(|(id, copies)| (*id, copies.found.as_slice(), copies.cut))
    }
}

/// A complete scan as one session sees it.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub copies: &'a [Copy],
    pub scan: &'a Scan,
    /// It could not see everything.
    pub partial: bool,
    /// When it was complete.
    pub now: u64,
    pub servers: &'a Servers,
    pub env: &'a Env,
}

/// Draws conclusions from a scan.
pub(super) fn looked(session: &mut Session, look: &Look<'_>, out: &mut Vec<Update>) {
    let Look {
        copies,
        partial,
        now,
        servers,
        env,
        ..
    } = *look;
    session.watch.looked = Some(now);
    let server = session.server.pid;
    let is_server = |copy: &Copy| copy.proc.pid == server || servers.is_server(copy.proc);
    if !partial {
        for stream in session.observed_mut() {
            let slot = stream.slot;
            let reads = |copy: &Copy| copy.slot == slot && copy.is_server_end() && is_server(copy);
            stream.looked_for_readers(copies.iter().any(reads), now);
        }
    }
    if session.linger.is_pending() {
        waiting::looked(session, look, out);
        return;
    }
    if !partial {
        for stream in session
            .observed_mut()
            .filter(|stream| stream.close.is_none())
        {
            let slot = stream.slot;
            stream.unheld = !copies
                .iter()
                .any(|copy| copy.slot == slot && copy.is_server_end());
        }
    }
    if session.leader_gone.is_none() {
        session.watch.due = Some(now.saturating_add(RESCAN_IDLE));
        return;
    }
    let held: Vec<&Copy> = copies
        .iter()
        .filter(|copy| {
            let hangs = session
                .outputs()
                .any(|stream| stream.slot == copy.slot && stream.hangs());
            hangs && copy.is_session_end() && !is_server(copy)
        })
        .collect();
    let mut by_proc = by_holder(&held);
    let known = std::mem::take(&mut session.watch.strangers);
    let strangers: BTreeSet<Proc> = by_proc
        .keys()
        .copied()
        .filter(|proc| !session.tree.is_member(*proc))
        .collect();
    by_proc.retain(|proc, _| !strangers.contains(proc) || known.contains(proc));
    session.watch.strangers = strangers;
    let found = by_proc.len();
    by_proc.retain(|proc, _| {
        now.saturating_sub(proc.start) >= GROWN_UP || session.tree.has_executed(*proc)
    });
    let any_young = by_proc.len() < found;

    let mut holders: Vec<HolderView> = by_proc
        .iter()
        .map(|(proc, copies)| holder(session, *proc, copies, look))
        .collect();
    if partial {
        let seen: BTreeSet<(u64, u32)> = holders.iter().map(HolderView::identity).collect();
        let unseen = session
            .watch
            .told
            .iter()
            .filter(|old| !seen.contains(&old.identity()));
        // Where they come and go faster than they are looked at, not all can be kept.
        let room = MAX_COPIES.saturating_sub(holders.len());
        holders.extend(unseen.take(room).cloned());
    }
    // Whoever came first passed its copies on to the others.
    holders.sort_by_key(HolderView::identity);
    tell(session, holders, now, env, out);

    let hangs = session.outputs().any(super::stream::Stream::hangs);
    let next = match () {
        () if session.watch.is_told() || !session.watch.strangers.is_empty() || any_young => RESCAN,
        () if hangs => RESCAN_UNHELD,
        () => RESCAN_IDLE,
    };
    session.watch.due = Some(now.saturating_add(next));
}

/// Tells that the holders are these now, if that is news.
pub(super) fn tell(
    session: &mut Session,
    holders: Vec<HolderView>,
    now: u64,
    env: &Env,
    out: &mut Vec<Update>,
) {
    if holders.is_empty() && !session.watch.is_told() {
        return;
    }
    let state = match (session.watch.is_told(), holders.is_empty()) {
        (false, _) => State::Open,
        (true, false) => State::Updated,
        (true, true) => State::Resolved,
    };
    let roots = roots(&holders);
    // Who dies now leaves its children for a moment: only what the next look finds as well is news.
    let is_news = roots != session.watch.named
        && (state != State::Updated || session.watch.roots.as_ref() == Some(&roots));
    if state == State::Updated && !is_news && holders == session.watch.told {
        return;
    }
    session.open(out);
    let stream = holders
        .iter()
        .chain(&session.watch.told)
        .flat_map(|holder| holder.streams.iter())
        .min()
        .copied();
    let held = |slot| match holders.is_empty() {
        true => true,
        false => holders.iter().any(|holder| holder.streams.contains(&slot)),
    };
    let bytes = session
        .outputs()
        .filter(|stream| held(stream.slot))
        .map(|stream| {
            stream
                .counters
                .written
                .saturating_sub(stream.written_at_exit.unwrap_or(0))
        })
        .fold(0u64, u64::saturating_add);
    let message = match state {
        State::Resolved => match message::gave_up(session, &session.watch.told, now) {
            Some(left) => format!("{}: {left}", message::who(&session.view)),
            None => message::released(session, &session.watch.told, now, env),
        },
        _ => message::orphaned(session, &holders, bytes, env),
    };
    let (named, fix) = match state {
        // Who held it, and what would have helped, stays worth knowing.
        State::Resolved => {
            let last = session.watch.told.clone();
            let fix = message::fix(session, &last).once_resolved();
            (last, fix)
        }
        State::Open | State::Updated => (holders.clone(), message::fix(session, &holders)),
    };
    out.push(Update::Finding(Finding {
        time: now,
        known: now,
        kind: Kind::Orphaned,
        state,
        since: None,
        session: session.view.clone(),
        stream,
        bytes,
        exact: session.gaps.is_empty(),
        cause: None,
        holders: named,
        margin_ns: None,
        message,
        fix,
        quiet: state == State::Updated && !is_news,
    }));
    if is_news {
        session.watch.named.clone_from(&roots);
    }
    session.watch.hung |= state == State::Open;
    session.watch.roots = Some(roots);
    session.watch.told = holders;
}

/// Holders that do not descend from another one: what a loop starts anew each second is its own.
fn roots(holders: &[HolderView]) -> Vec<HolderView> {
    let pids: BTreeSet<u32> = holders.iter().map(|it| it.pid).collect();
    let is_root = |it: &&HolderView| {
        let mut above = it.path.iter().filter(|step| step.pid != it.pid);
        !above.any(|step| pids.contains(&step.pid))
    };
    holders.iter().filter(is_root).cloned().collect()
}

/// Copies by who holds them. A descriptor table is one holder, however many processes have it: the
/// one that has lived longest stands for all.
fn by_holder<'a>(copies: &[&'a Copy]) -> BTreeMap<Proc, Vec<&'a Copy>> {
    let mut owners: BTreeMap<u64, Proc> = BTreeMap::new();
    for copy in copies.iter().filter(|copy| copy.table != 0) {
        let owner = owners.entry(copy.table).or_insert(copy.proc);
        *owner = copy.proc.min(*owner);
    }
    let mut holders: BTreeMap<Proc, Vec<&Copy>> = BTreeMap::new();
    for copy in copies {
        let owner = owners.get(&copy.table).unwrap_or(&copy.proc);
        holders.entry(*owner).or_default().push(copy);
    }
    holders
}

fn holder(session: &Session, proc: Proc, copies: &[&Copy], look: &Look<'_>) -> HolderView {
    let through = |via| distinct(copies.iter().filter(|it| it.via == via).map(|it| it.fd));
    let own = copies.iter().find(|copy| copy.proc == proc);
    let seen = own.unwrap_or(&copies[0]).seen;
    let streams = distinct(copies.iter().map(|copy| copy.slot));
    let fds = through(via::DESCRIPTOR);
    let mut view = view(session, proc, &seen, fds, streams, look.scan);
    view.sockets = through(via::SOCKET);
    view.rings = through(via::RING);
    let others = copies.iter().map(|copy| copy.proc.pid);
    view.shared_with = distinct(others.filter(|pid| *pid != proc.pid));

    let files: Vec<u64> = copies.iter().map(|copy| copy.file).collect();
    let sight = match session.gaps.is_empty() {
        false => Sight::Gap,
        true if look.env.all_handovers => Sight::Whole,
        true => Sight::Members,
    };
    let received =
        view.origin != Origin::Inherited && session.handovers.received(proc, &files, sight);
    if received || view.is_in_flight() {
        view.origin = Origin::Passed;
        view.sender = session.handovers.sender(proc, &files, sight);
    }
    view
}

/// Each of them once, ascending.
fn distinct<T: Ord>(of: impl Iterator<Item = T>) -> Vec<T> {
    of.collect::<BTreeSet<T>>().into_iter().collect()
}

/// A process by what the session and the scan know of it.
pub(super) fn view(
    session: &Session,
    proc: Proc,
    seen: &Seen,
    fds: Vec<u32>,
    streams: Vec<Slot>,
    scan: &Scan,
) -> HolderView {
    let (path, origin) = session.tree.path(proc, !session.gaps.is_empty());
    let (argv, forked) = match session.tree.argv(proc) {
        Some((argv, own)) => (Some(argv), !own),
        None => (scan.strangers.get(&proc), false),
    };
    let path = match path.is_empty() {
        true => vec![Step {
            comm: Visible::field(&seen.comm),
            pid: proc.pid,
        }],
        false => path,
    };
    HolderView {
        pid: proc.pid,
        ns_pid: seen.ns_pid,
        start: proc.start,
        uid: seen.uid,
        comm: Visible::field(&seen.comm),
        argv: argv.map(Argv::words).unwrap_or_default(),
        argv_cut: argv.is_some_and(|argv| argv.cut),
        argv_verbatim: argv.is_some_and(Argv::is_verbatim),
        launcher: session.tree.launcher(proc),
        forked,
        fds,
        sockets: Vec::new(),
        rings: Vec::new(),
        shared_with: Vec::new(),
        streams,
        path,
        origin,
        sender: None,
        container: scan.containers.get(&proc).cloned(),
    }
}
