//! What a scan of the machine's processes finds: who has copies of sessions' ends, and sockets.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tracer_ebpf::{COMM_LEN, Cgroup, Holder, Proc, Socket};

use super::{argv::Argv, env::Env, peers::Servers};
use crate::model::view::{Container, Slot};

/// Most copies of one session's ends that are looked at in one scan.
pub(in crate::model) const MAX_COPIES: usize = 4096;
/// Most copies of all sessions' ends that are looked at in one scan.
const MAX_ALL_COPIES: usize = 262_144;
/// Most sockets that are looked at in one scan.
const MAX_SOCKETS: usize = 65_536;

const READ: u32 = 1;
const WRITE: u32 = 2;

/// What a scan says of a process in addition to what it has open.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Seen {
    pub ns_pid: u32,
    pub uid: u32,
    pub comm: [u8; COMM_LEN],
}

/// One copy found by a scan.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Copy {
    pub proc: Proc,
    pub seen: Seen,
    pub fd: u32,
    /// How the process has it: one of [`tracer_ebpf::via`].
    pub via: u32,
    pub slot: Slot,
    mode: u32,
    /// Address of the kernel's open file.
    pub file: u64,
    /// The descriptor table that it is found in; 0 when not known.
    pub table: u64,
}

impl Copy {
    fn of(record: &Holder) -> Option<Self> {
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

    pub fn is_server_end(&self) -> bool {
        self.mode & if self.slot.is_output() { READ } else { WRITE } != 0
    }

    pub fn is_session_end(&self) -> bool {
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
pub(in crate::model) struct Scan {
    copies: BTreeMap<u64, Copies>,
    /// How many there are of all sessions.
    all_copies: usize,
    /// Arguments of processes that are no members, which arrive during the scan.
    strangers: BTreeMap<Proc, Argv>,
    containers: BTreeMap<Proc, Container>,
    /// What connections may be kept open for.
    sockets: Vec<Socket>,
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

    /// Sockets of servers and of programs that use their forwards.
    pub fn sockets(&self) -> &[Socket] {
        &self.sockets
    }

    /// Arguments of a process that is no member.
    pub fn argv(&self, proc: Proc) -> Option<&Argv> {
        self.strangers.get(&proc)
    }

    /// The container that a process runs in.
    pub fn container(&self, proc: Proc) -> Option<&Container> {
        self.containers.get(&proc)
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
pub(in crate::model) struct Look<'a> {
    pub copies: &'a [Copy],
    pub scan: &'a Scan,
    /// It could not see everything.
    pub partial: bool,
    /// When it was complete.
    pub now: u64,
    pub servers: &'a Servers,
    pub env: &'a Env,
}

impl Look<'_> {
    /// Whether a copy is in a process that speaks for the session's server or for another one.
    pub fn is_server(&self, copy: &Copy, server: Proc) -> bool {
        copy.proc.pid == server.pid || self.servers.is_server(copy.proc)
    }
}
