//! The steps of a scenario.

use tracer_ebpf::{
    Chld, Conn, ConnId, Exec, Exit, Fork, Holder, Kind, Loss, Proc, Progress, Resume, SessionStart,
    SessionVanished, Signal, Socket, Start, Stream, StreamEnds, StreamNow, Tick, User, backend,
    role, transport,
};

use super::{MS, SERVER, SOCK, STDERR, STDIN, STDOUT, Scenario, id, object, proc, text};

impl Scenario {
    pub fn start(&mut self, backend: u32) -> &mut Self {
        self.start_with(backend, |_| ())
    }

    pub fn start_with(&mut self, backend: u32, change: impl FnOnce(&mut Start)) -> &mut Self {
        self.put(Kind::Start, |r: &mut Start| {
            r.wall_offset = 1_700_000_000_000_000_000;
            r.grace = 1_000 * MS;
            r.pid = 1;
            r.backend = backend;
            r.host = text("bastion");
            r.kernel = text("6.12.0");
            r.servers = text("sshd\0sshd-session\0");
            change(r);
        })
    }

    pub fn ready(&mut self) -> &mut Self {
        self.put(Kind::Ready, |_: &mut Tick| ())
    }

    /// A tracer goes on where an earlier one stopped `ms` ago; `complete`: its programs ran meanwhile.
    pub fn resumes(&mut self, ms: u64, complete: bool) -> &mut Self {
        let since = self.now;
        self.after(ms).start(backend::FENTRY);
        self.put(Kind::Resume, |r: &mut Resume| {
            r.since = since;
            r.complete = u32::from(complete);
        })
    }

    /// The snapshot finds a session that runs; `leader` false: one whose leader is gone.
    pub fn found(&mut self, of: u32, leader: bool) -> &mut Self {
        self.session_with(of, |r| {
            r.preexisting = 1;
            if !leader {
                r.leader = Proc::default();
            }
        })
    }

    /// A session of the earlier tracer is no more.
    pub fn gone(&mut self, leader: u32) -> &mut Self {
        self.put(Kind::SessionVanished, |r: &mut SessionVanished| {
            r.session = id(leader);
        })
    }

    pub fn server(&mut self, pid: u32) -> &mut Self {
        self.process(0, pid, 1, role::SERVER, &["sshd-session"])
    }

    /// A process that was there before the tracer.
    pub fn process(
        &mut self,
        session: u64,
        pid: u32,
        parent: u32,
        flags: u32,
        argv: &[&str],
    ) -> &mut Self {
        self.executed(Kind::Process, session, pid, parent, flags, argv)
    }

    /// A session of alice's from 10.0.0.5 begins on three pipes.
    pub fn session(&mut self, leader: u32) -> &mut Self {
        self.session_with(leader, |_| ())
    }

    pub fn session_with(
        &mut self,
        leader: u32,
        change: impl FnOnce(&mut SessionStart),
    ) -> &mut Self {
        self.put(Kind::Fork, |r: &mut Fork| {
            r.parent = proc(SERVER);
            r.child = proc(leader);
            r.flags = role::SERVER;
            r.comm = text("sshd-session");
        });
        self.put(Kind::SessionStart, |r: &mut SessionStart| {
            r.session = id(leader);
            r.leader = proc(leader);
            r.server = proc(SERVER);
            r.uid = 1000;
            for slot in 0..3 {
                r.streams[slot as usize] = StreamEnds {
                    object: object(leader, slot),
                    transport: transport::PIPE,
                    capacity: 65536,
                };
            }
            r.conn = conn();
            r.exe = text("sshd-session");
            change(r);
        });
        self.put(Kind::User, |r: &mut User| {
            r.uid = 1000;
            r.name = text("alice");
        })
    }

    /// A session whose leader runs `bash -c SCRIPT`.
    pub fn runs(&mut self, leader: u32, script: &str) -> &mut Self {
        self.session(leader)
            .exec(leader, leader, SERVER, &["bash", "-c", script])
            .tick()
    }

    pub fn exec(&mut self, leader: u32, pid: u32, parent: u32, argv: &[&str]) -> &mut Self {
        let flags = if pid == leader { role::LEADER } else { 0 };
        self.executed(Kind::Exec, id(leader), pid, parent, flags, argv)
    }

    fn executed(
        &mut self,
        kind: Kind,
        session: u64,
        pid: u32,
        parent: u32,
        flags: u32,
        argv: &[&str],
    ) -> &mut Self {
        self.put(kind, |r: &mut Exec| {
            r.session = session;
            r.proc = proc(pid);
            r.parent = parent;
            r.uid = 1000;
            r.flags = flags;
            r.comm = text(argv[0].get(..argv[0].len().min(15)).unwrap_or("odd"));
            r.exe = text(argv[0]);
            let joined = argv.join("\0") + "\0";
            r.argv[..joined.len()].copy_from_slice(joined.as_bytes());
            r.argv_len = joined.len() as u32;
            r.argv_full = r.argv_len;
        })
    }

    pub fn fork(&mut self, leader: u32, parent: u32, child: u32, comm: &str) -> &mut Self {
        self.put(Kind::Fork, |r: &mut Fork| {
            r.session = id(leader);
            r.parent = proc(parent);
            r.child = proc(child);
            r.uid = 1000;
            r.comm = text(comm);
        })
    }

    /// Forks and executes.
    pub fn spawn(&mut self, leader: u32, parent: u32, child: u32, argv: &[&str]) -> &mut Self {
        self.fork(leader, parent, child, "bash")
            .exec(leader, child, parent, argv)
    }

    /// The leader exits; its streams hold this many unread bytes.
    pub fn leader_exits(&mut self, leader: u32, code: u32, streams: [StreamNow; 3]) -> &mut Self {
        self.put(Kind::Exit, |r: &mut Exit| {
            r.session = id(leader);
            r.proc = proc(leader);
            r.status = code << 8;
            r.flags = role::LEADER | role::EXITED;
            r.streams = streams;
        })
    }

    pub fn leader_is_killed(&mut self, leader: u32, signal: u32) -> &mut Self {
        self.put(Kind::Exit, |r: &mut Exit| {
            r.session = id(leader);
            r.proc = proc(leader);
            r.status = signal;
            r.flags = role::LEADER | role::EXITED;
        })
    }

    pub fn exits(&mut self, leader: u32, pid: u32) -> &mut Self {
        self.put(Kind::Exit, |r: &mut Exit| {
            r.session = id(leader);
            r.proc = proc(pid);
            r.flags = role::EXITED;
        })
    }

    /// The server's process exits with this status of wait(2).
    pub fn server_exits(&mut self, status: u32) -> &mut Self {
        self.put(Kind::Exit, |r: &mut Exit| {
            r.proc = proc(SERVER);
            r.status = status;
            r.flags = role::SERVER | role::EXITED;
        })
    }

    pub fn chld(&mut self, leader: u32, stage: u32, streams: [StreamNow; 3]) -> &mut Self {
        self.put(Kind::Chld, |r: &mut Chld| {
            r.session = id(leader);
            r.server = SERVER;
            r.stage = stage;
            r.streams = streams;
        })
    }

    pub fn kill(&mut self, target: u32, signal: u32) -> &mut Self {
        self.put(Kind::Signal, |r: &mut Signal| {
            r.target = proc(target);
            r.signal = signal;
            r.sender = 99;
            r.comm = text("kill");
        })
    }

    pub fn stream(
        &mut self,
        leader: u32,
        slot: u32,
        edge: u32,
        change: impl FnOnce(&mut Stream),
    ) -> &mut Self {
        self.put(Kind::Stream, |r: &mut Stream| {
            r.session = id(leader);
            r.object = object(leader, slot);
            r.slot = slot;
            r.edge = edge;
            r.pid = SERVER;
            r.readers = 1;
            r.refs = u32::from(edge == tracer_ebpf::edge::SERVER_CLOSE);
            change(r);
        })
    }

    /// The server closes its end with everything read.
    pub fn closes(&mut self, leader: u32, slot: u32, bytes: u64) -> &mut Self {
        let now = self.now;
        self.stream(leader, slot, tracer_ebpf::edge::SERVER_CLOSE, |r| {
            r.counters.written = bytes;
            r.counters.read = bytes;
            r.counters.last_read = if bytes > 0 { now } else { 0 };
        })
    }

    /// The server closes all its ends with everything read; stdout had this many bytes.
    pub fn closes_ends(&mut self, leader: u32, stdout: u64) -> &mut Self {
        self.closes(leader, STDIN, 0)
            .closes(leader, STDOUT, stdout)
            .closes(leader, STDERR, 0)
    }

    /// The same, and the client has no other session and leaves.
    pub fn closes_all(&mut self, leader: u32, stdout: u64) -> &mut Self {
        self.closes_ends(leader, stdout).leaves()
    }

    /// The client leaves.
    pub fn leaves(&mut self) -> &mut Self {
        self.now += 1;
        self.conn(1, 8, 0)
    }

    pub fn conn(&mut self, old: u32, new: u32, error: u32) -> &mut Self {
        self.conn_at(old, new, error, Progress::default())
    }

    /// The connection changes state when it has come so far.
    pub fn conn_at(&mut self, old: u32, new: u32, error: u32, at: Progress) -> &mut Self {
        self.put(Kind::Conn, |r: &mut Conn| {
            r.conn = conn();
            r.old = old;
            r.new = new;
            r.error = error;
            r.progress = at;
        })
    }

    /// The server's connection, as a scan finds it.
    pub fn connected(&mut self, at: Progress) -> &mut Self {
        self.put(Kind::Socket, |r: &mut Socket| {
            r.proc = proc(SERVER);
            r.state = 1;
            r.conn = conn();
            r.progress = at;
        })
    }

    pub fn loses(&mut self, records: u64) -> &mut Self {
        self.put(Kind::Loss, |r: &mut Loss| r.counts[0] = records)
    }

    /// An open write end of an output, or read end of stdin, that a scan finds.
    pub fn holds(&mut self, leader: u32, pid: u32, comm: &str, fds: &[(u32, u32)]) -> &mut Self {
        for (fd, slot) in fds {
            self.holds_end(
                leader,
                pid,
                comm,
                *fd,
                *slot,
                if *slot == 0 { 1 } else { 2 },
            );
        }
        self
    }

    /// The server's own ends, as a scan finds them.
    pub fn server_holds(&mut self, leader: u32) -> &mut Self {
        for slot in 0..3 {
            self.holds_end(
                leader,
                SERVER,
                "sshd-session",
                10 + slot,
                slot,
                if slot == 0 { 2 } else { 1 },
            );
        }
        self
    }

    fn holds_end(
        &mut self,
        leader: u32,
        pid: u32,
        comm: &str,
        fd: u32,
        slot: u32,
        mode: u32,
    ) -> &mut Self {
        self.put(Kind::Holder, |r: &mut Holder| {
            r.session = id(leader);
            r.key = object(leader, slot) << 12;
            r.object = object(leader, slot);
            r.proc = proc(pid);
            r.ns_pid = pid;
            r.uid = 1000;
            r.fd = fd;
            r.slot = slot;
            r.mode = mode;
            r.transport = transport::PIPE;
            r.comm = text(comm);
        })
    }
}

fn conn() -> ConnId {
    let mut conn = ConnId {
        sock: SOCK,
        family: 2,
        local_port: 22,
        peer_port: 51234,
        ..ConnId::default()
    };
    conn.local[..4].copy_from_slice(&[10, 0, 0, 1]);
    conn.peer[..4].copy_from_slice(&[10, 0, 0, 5]);
    conn
}
