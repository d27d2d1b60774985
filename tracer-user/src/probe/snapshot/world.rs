//! Finds the sessions that were there before the tracer, from what a scan of the machine shows.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    os::unix::fs::MetadataExt,
};

use aya::maps::MapError;
use tracer_ebpf::{
    Fork, Header, Holder, Kind, Proc, STREAMS, Session, SessionStart, Socket, StreamEnds,
    StreamState, session_id, transport, via,
};
use zerocopy::FromZeros;

use super::{
    super::{
        kernel_objects::KernelObjects,
        scan::{self, ScanError},
        sink::KnownSession,
        tables::{Tables, fixed},
    },
    exe_name,
};

const FMODE_READ: u32 = 1;
const FMODE_WRITE: u32 = 2;
/// `TCP_ESTABLISHED`, `TCP_CLOSE_WAIT` (include/net/tcp_states.h).
const CONNECTED: [u32; 2] = [1, 8];

/// A session that the snapshot found.
pub struct Found {
    pub start: SessionStart,
    /// Keys of its streams; 0 for none.
    pub keys: [u64; STREAMS],
}

impl Found {
    /// Gives a session whose leader has exited the id that it had before. It is recognised by its
    /// streams, which are still in the kernel side's tables, or which an earlier tracer knew.
    pub fn recognise(&mut self, tables: &Tables, known: &[KnownSession]) {
        if self.start.leader.pid != 0 {
            return;
        }
        let objects = self.start.streams.map(|ends| ends.object);
        let is_same = |it: &&KnownSession| {
            let shared = |object: &u64| *object != 0 && it.objects.contains(object);
            it.server == self.start.server && objects.iter().any(shared)
        };
        let kept = self.keys.iter().find_map(|key| tables.session_of(*key));
        let id = kept.or_else(|| known.iter().find(is_same).map(|it| it.session));
        self.start.session = id.unwrap_or(self.start.session);
    }
}

/// All processes, the ends that they hold, and their sockets, at the time of the snapshot.
pub struct World {
    /// By pid.
    pub processes: BTreeMap<u32, Fork>,
    /// Pids of servers.
    pub servers: HashSet<u32>,
    /// Ends by key of their stream.
    holders: HashMap<u64, Vec<Holder>>,
    /// Key of the stream that a socket or tty reads, by its open file.
    reads: HashMap<u64, u64>,
    sockets: Vec<Socket>,
}

impl World {
    /// Scans the machine. `names` are the base names of servers' executables.
    pub fn read(objects: &mut KernelObjects, names: &[String]) -> Result<Self, ScanError> {
        let mut holders: HashMap<u64, Vec<Holder>> = HashMap::new();
        let mut reads = HashMap::new();
        for holder in scan::descriptors(objects)?
            .into_iter()
            .chain(scan::inflight(objects)?)
        {
            if holder.transport != transport::PIPE && holder.mode & FMODE_READ != 0 {
                reads.insert(holder.file, holder.key);
            }
            holders.entry(holder.key).or_default().push(holder);
        }
        let sockets = scan::sockets(objects)?;
        let processes: BTreeMap<u32, Fork> = scan::processes(objects)?
            .into_iter()
            .map(|process| (process.child.pid, process))
            .collect();
        let servers = processes
            .keys()
            .copied()
            .filter(|pid| names.contains(&exe_name(*pid)))
            .collect();
        Ok(Self {
            processes,
            servers,
            holders,
            reads,
            sockets,
        })
    }

    /// Calls `each` for a process and all its descendants.
    pub fn descendants(&self, pid: u32, mut each: impl FnMut(u32)) {
        let mut todo = vec![pid];
        while let Some(pid) = todo.pop() {
            each(pid);
            todo.extend(
                self.processes
                    .values()
                    .filter(|p| p.parent.pid == pid && p.child.pid != pid)
                    .map(|p| p.child.pid),
            );
        }
    }

    /// Ends of a stream.
    pub fn holders(&self, key: u64) -> &[Holder] {
        self.holders.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Finds the sessions: a server holds only one side of an object, and another process the other.
    pub fn sessions(&self, time: u64) -> Vec<Found> {
        // Server ends, by server: it reads stdout and stderr, and writes stdin.
        let mut ends: BTreeMap<u32, Vec<&Holder>> = BTreeMap::new();
        for holders in self.holders.values() {
            let server_ends: Vec<_> = holders
                .iter()
                .filter(|holder| self.servers.contains(&holder.proc.pid))
                .collect();
            for end in &server_ends {
                let both = server_ends
                    .iter()
                    .any(|other| other.proc == end.proc && other.mode != end.mode);
                let leader_end = end.fd < 3 && self.is_child_of_server(end.proc.pid);
                if !both && !leader_end {
                    ends.entry(end.proc.pid).or_default().push(end);
                }
            }
        }
        let mut found = Vec::new();
        for (server, mut ends) in ends {
            ends.sort_by_key(|end| (end.object, end.key));
            ends.dedup_by_key(|end| end.key);
            let mut assigned = HashSet::new();
            for process in self
                .processes
                .values()
                .filter(|process| process.parent.pid == server)
            {
                if let Some(session) = self.led_by(process, server, &ends, time) {
                    assigned.extend(session.keys);
                    found.push(session);
                }
            }
            // A socket of a server may be connected to any service, and no pty outlives its leader.
            ends.retain(|end| {
                end.transport == transport::PIPE
                    && !assigned.contains(&end.key)
                    && self.held_by_others(end)
            });
            found.extend(self.leaderless(server, &ends, time));
        }
        found
    }

    fn is_child_of_server(&self, pid: u32) -> bool {
        self.processes
            .get(&pid)
            .is_some_and(|process| self.servers.contains(&process.parent.pid))
    }

    /// Whether a process that is no server holds the other side.
    fn held_by_others(&self, end: &Holder) -> bool {
        self.holders(end.key)
            .iter()
            .any(|other| !self.servers.contains(&other.proc.pid) && other.mode != end.mode)
    }

    /// The session that a server's child leads, if it has the other sides of its server's ends as stdin,
    /// stdout or stderr.
    fn led_by(&self, process: &Fork, server: u32, ends: &[&Holder], time: u64) -> Option<Found> {
        let mut keys = [0; STREAMS];
        // Servers that work together are connected by sockets.
        let is_server = self.servers.contains(&process.child.pid);
        for end in ends
            .iter()
            .filter(|end| end.transport == transport::PIPE || !is_server)
        {
            for other in self.holders(end.key) {
                let slot = other.fd as usize;
                let side = if slot == 0 { FMODE_READ } else { FMODE_WRITE };
                if other.proc.pid == process.child.pid
                    && other.via == via::DESCRIPTOR
                    && slot < STREAMS
                    && other.mode & side != 0
                    && end.mode & side == 0
                {
                    keys[slot] = end.key;
                }
            }
        }
        (keys != [0; STREAMS])
            .then(|| self.found(server, process.child, process.uid, keys, ends, time))
    }

    /// The sessions of the remaining ends, whose leaders have exited. Pipes that were made together
    /// belong to one session.
    fn leaderless(&self, server: u32, ends: &[&Holder], time: u64) -> Vec<Found> {
        let mut groups: Vec<[u64; STREAMS]> = Vec::new();
        let mut last = 0;
        for end in ends {
            // Inode numbers increase, and a server makes stdin, stdout, stderr in a row.
            let near = end.object.abs_diff(last) <= 2;
            last = end.object;
            let is_held_as = |fd| {
                self.holders(end.key).iter().any(|h| {
                    h.fd == fd && h.via == via::DESCRIPTOR && !self.servers.contains(&h.proc.pid)
                })
            };
            let named_stderr = is_held_as(2) && !is_held_as(1);
            let group = match groups.last_mut() {
                Some(group) if near => group,
                _ => {
                    groups.push([0; STREAMS]);
                    let at = groups.len() - 1;
                    &mut groups[at]
                }
            };
            let slot = match end.mode {
                FMODE_WRITE => 0,
                _ if group[1] != 0 || named_stderr => 2,
                _ => 1,
            };
            if group[slot] == 0 {
                group[slot] = end.key;
            } else {
                let mut alone = [0; STREAMS];
                alone[slot] = end.key;
                groups.push(alone);
            }
        }
        groups.retain(|group| group[1] != 0 || group[2] != 0);
        groups
            .into_iter()
            .map(|keys| {
                let mut holders = keys.iter().flat_map(|key| self.holders(*key));
                let uid = holders
                    .find(|holder| !self.servers.contains(&holder.proc.pid))
                    .map_or(0, |holder| holder.uid);
                self.found(server, Proc::default(), uid, keys, ends, time)
            })
            .collect()
    }

    /// A session with these streams; the leader's pid is 0 when it has exited.
    fn found(
        &self,
        server: u32,
        leader: Proc,
        uid: u32,
        keys: [u64; STREAMS],
        ends: &[&Holder],
        time: u64,
    ) -> Found {
        let server_proc = self.processes.get(&server).map_or(
            Proc {
                pid: server,
                ..Proc::default()
            },
            |p| p.child,
        );
        let mut streams = [StreamEnds::default(); STREAMS];
        let mut first = u64::MAX;
        for (slot, key) in keys.iter().enumerate() {
            if let Some(end) = ends.iter().find(|end| end.key == *key) {
                let object = self.object(end);
                first = first.min(object);
                streams[slot] = StreamEnds {
                    object,
                    transport: end.transport,
                    capacity: end.capacity,
                };
            }
        }
        // Without a leader, the id is made from the server and its first pipe.
        let session = if leader.pid == 0 {
            session_id(Proc {
                start: server_proc.start + first % 1000 * 1_000_000,
                ..server_proc
            })
        } else {
            session_id(leader)
        };
        let mut start = SessionStart::new_zeroed();
        start.header = Header::new(Kind::SessionStart, time);
        start.session = session;
        start.leader = leader;
        start.server = server_proc;
        start.uid = uid;
        start.preexisting = 1;
        start.streams = streams;
        if let Some(connection) = self.connection(server) {
            start.conn = connection.conn;
            start.progress = connection.progress;
        }
        start.exe = fixed(&exe_name(server));
        let program = std::fs::metadata(format!("/proc/{server}/exe"));
        start.owner = program.map_or(0, |file| file.uid());
        Found { start, keys }
    }

    /// Inode number of an end's object. Of a socket, that of the one which reads the stream.
    fn object(&self, end: &Holder) -> u64 {
        let mut holders = self.holders(end.key).iter();
        let reader = holders.find(|holder| holder.mode & FMODE_READ != 0);
        reader.map_or(end.object, |reader| reader.object)
    }

    /// The socket or tty that writes what another reads; 0 if no process has it.
    fn other_side(&self, key: u64) -> u64 {
        let mut holders = self.holders(key).iter();
        let writer = holders.find(|holder| holder.mode & FMODE_WRITE != 0);
        let reads = writer.and_then(|writer| self.reads.get(&writer.file));
        reads.copied().unwrap_or(0)
    }

    /// The connection of a server that has only one.
    fn connection(&self, server: u32) -> Option<&Socket> {
        let mut socks: Vec<_> = self
            .sockets
            .iter()
            .filter(|socket| socket.proc.pid == server && CONNECTED.contains(&socket.state))
            .collect();
        socks.sort_by_key(|socket| socket.fd);
        let (first, others) = socks.split_first()?;
        let (first, on) = (*first, first.conn);
        let is_other =
            |other: &&Socket| other.conn.local_port == on.local_port && other.conn.sock != on.sock;
        match others.iter().any(is_other) {
            true => None,
            false => Some(first),
        }
    }

    /// Adds a session to the kernel side's tables.
    pub fn seed(&self, tables: &mut Tables, found: &Found) -> Result<(), MapError> {
        let server = found.start.server.pid;
        for (slot, key) in found.keys.iter().enumerate().filter(|(_, key)| **key != 0) {
            let transport = found.start.streams[slot].transport;
            let server_file = |mode| {
                let mut holders = self.holders(*key).iter();
                let end = holders.find(|it| it.proc.pid == server && it.mode & mode != 0);
                end.map_or(0, |end| end.file)
            };
            let (reader, writer) = match transport {
                transport::PIPE => (server_file(FMODE_READ), server_file(FMODE_WRITE)),
                // The key of a socket or tty is that of the stream that it reads.
                _ => (*key, self.other_side(*key)),
            };
            tables.seed_stream(
                *key,
                StreamState {
                    session: found.start.session,
                    object: found.start.streams[slot].object,
                    reader,
                    writer,
                    server,
                    slot: slot as u32,
                    transport,
                    conn: match slot {
                        0 => 0,
                        _ => found.start.conn.sock,
                    },
                    ..StreamState::default()
                },
            )?;
        }
        let leader = found.start.leader.pid;
        tables.seed_session(
            found.start.session,
            Session {
                streams: found.keys,
                leader,
                server,
            },
        )?;
        if found.start.conn.sock != 0 {
            tables.seed_conn(found.start.conn.sock)?;
        }
        Ok(())
    }
}
