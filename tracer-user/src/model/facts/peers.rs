//! Servers and connections: what happens to them happens to all their sessions.

use std::collections::HashMap;

use tracer_ebpf::{COMM_LEN, ConnId, Proc};

/// Most servers kept; children that servers forked and that became something else would stay.
pub(in crate::model) const MAX_SERVERS: usize = 65_536;

#[derive(Debug)]
struct Server {
    start: u64,
    parent: u32,
    comm: [u8; COMM_LEN],
    /// It did something only servers do; other forks of servers may become helpers, unseen.
    confirmed: bool,
    sessions: Vec<u64>,
}

/// Processes that speak for servers, by pid.
#[derive(Debug, Default)]
pub(in crate::model) struct Servers {
    by_pid: HashMap<u32, Server>,
}

impl Servers {
    pub fn len(&self) -> usize {
        self.by_pid.len()
    }

    /// A server forked.
    pub fn fork(&mut self, parent: Proc, child: Proc, comm: [u8; COMM_LEN]) {
        if let Some(server) = self.by_pid.get_mut(&parent.pid) {
            server.confirmed = true;
        }
        self.add(child, parent.pid, comm, false);
    }

    /// A process executed, or is found to run, a server.
    pub fn exec(&mut self, proc: Proc, parent: u32, comm: [u8; COMM_LEN]) {
        self.add(proc, parent, comm, true);
    }

    /// A server has a session.
    pub fn serves(&mut self, server: Proc, session: u64) {
        self.add(server, 0, [0; COMM_LEN], true);
        if let Some(server) = self.by_pid.get_mut(&server.pid) {
            server.sessions.push(session);
        }
    }

    /// The session is over.
    pub fn done(&mut self, server: u32, session: u64) {
        if let Some(server) = self.by_pid.get_mut(&server) {
            server.sessions.retain(|id| *id != session);
        }
    }

    /// It is no server (any more). Gives the name it had as one.
    pub fn leave(&mut self, pid: u32) -> Option<[u8; COMM_LEN]> {
        self.by_pid.remove(&pid).map(|server| server.comm)
    }

    /// It exits. Gives the sessions it has.
    pub fn exit(&mut self, proc: Proc) -> Vec<u64> {
        if self
            .by_pid
            .get(&proc.pid)
            .is_none_or(|server| !same(server.start, proc.start))
        {
            return Vec::new();
        }
        self.by_pid
            .retain(|_, server| server.confirmed || server.parent != proc.pid);
        self.by_pid
            .remove(&proc.pid)
            .map(|server| server.sessions)
            .unwrap_or_default()
    }

    /// Sessions of the server.
    pub fn sessions(&self, proc: Proc) -> &[u64] {
        match self.by_pid.get(&proc.pid) {
            Some(server) if same(server.start, proc.start) => &server.sessions,
            _ => &[],
        }
    }

    /// The name that it had when it became one.
    pub fn name(&self, proc: Proc) -> Option<[u8; COMM_LEN]> {
        let server = self.by_pid.get(&proc.pid)?;
        same(server.start, proc.start).then_some(server.comm)
    }

    pub fn is_server(&self, proc: Proc) -> bool {
        self.name(proc).is_some()
    }

    fn add(&mut self, proc: Proc, parent: u32, comm: [u8; COMM_LEN], confirmed: bool) {
        if proc.pid == 0 {
            return;
        }
        let full = self.by_pid.len() >= MAX_SERVERS;
        match self.by_pid.get_mut(&proc.pid) {
            Some(server) if same(server.start, proc.start) => {
                server.start = server.start.max(proc.start);
                server.confirmed |= confirmed;
            }
            None if full => {}
            _ => {
                let server = Server {
                    start: proc.start,
                    parent,
                    comm,
                    confirmed,
                    sessions: Vec::new(),
                };
                self.by_pid.insert(proc.pid, server);
            }
        }
    }
}

/// Start times of one process; 0 when not known.
fn same(a: u64, b: u64) -> bool {
    a == b || a == 0 || b == 0
}

/// Sessions by the connection they live on.
#[derive(Debug, Default)]
pub(in crate::model) struct Conns {
    by_sock: HashMap<u64, (ConnId, Vec<u64>)>,
}

impl Conns {
    pub fn len(&self) -> usize {
        self.by_sock.len()
    }

    pub fn carries(&mut self, conn: ConnId, session: u64) {
        if conn.sock == 0 {
            return;
        }
        let (id, sessions) = self.by_sock.entry(conn.sock).or_insert((conn, Vec::new()));
        if *id != conn {
            // The kernel gave the address to another connection.
            *id = conn;
            sessions.clear();
        }
        sessions.push(session);
    }

    pub fn done(&mut self, conn: &ConnId, session: u64) {
        if let Some((_, sessions)) = self.by_sock.get_mut(&conn.sock) {
            sessions.retain(|id| *id != session);
            if sessions.is_empty() {
                self.by_sock.remove(&conn.sock);
            }
        }
    }

    pub fn sessions(&self, sock: u64) -> &[u64] {
        self.by_sock
            .get(&sock)
            .map_or(&[], |(_, sessions)| sessions)
    }
}
