//! The kernel side's tables, as user space seeds, samples and cleans them.

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf},
};
use tracer_ebpf::{EXE_LEN, STREAMS, Session, StreamState, Task, loss, role};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::skipped::Skipped;

/// Gives the ABI's own structs the trait that aya wants of a map's value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Plain<T>(T);

// SAFETY: T has no padding and every bit pattern is a T, as its traits prove.
unsafe impl<T: Copy + FromBytes + IntoBytes + Immutable + 'static> Pod for Plain<T> {}

/// `BPF_NOEXIST` of include/uapi/linux/bpf.h: what the kernel side already knows, it knows better.
const NOEXIST: u64 = 1;

/// Handles to the tables of one load.
pub struct Tables {
    tasks: HashMap<MapData, u32, Plain<Task>>,
    sessions: HashMap<MapData, u64, Plain<Session>>,
    streams: HashMap<MapData, u64, Plain<StreamState>>,
    conns: HashMap<MapData, u64, u32>,
    scan_all: Array<MapData, u32>,
    lost: PerCpuArray<MapData, u64>,
    told: [u64; loss::KINDS],
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map, MapError> {
    ebpf.take_map(name).ok_or_else(|| MapError::InvalidName {
        name: name.to_owned(),
    })
}

/// Tells the kernel side which executables are servers; before anything is attached.
pub fn name_servers(ebpf: &mut Ebpf, names: &[String]) -> Result<(), MapError> {
    let map = ebpf
        .map_mut("SERVERS")
        .ok_or_else(|| MapError::InvalidName {
            name: "SERVERS".to_owned(),
        })?;
    let mut servers: HashMap<_, [u8; EXE_LEN], u32> = map.try_into()?;
    for name in names {
        servers.insert(fixed(name), 1, 0)?;
    }
    Ok(())
}

/// The ring buffer.
pub fn ring(ebpf: &mut Ebpf) -> Result<RingBuf<MapData>, MapError> {
    take(ebpf, "RECORDS")?.try_into()
}

/// Text as a NUL-padded array, cut to leave a NUL.
pub fn fixed<const N: usize>(text: &str) -> [u8; N] {
    let mut out = [0; N];
    let len = text.len().min(N - 1);
    out[..len].copy_from_slice(&text.as_bytes()[..len]);
    out
}

impl Tables {
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            tasks: take(ebpf, "TASKS")?.try_into()?,
            sessions: take(ebpf, "SESSIONS")?.try_into()?,
            streams: take(ebpf, "STREAM_TABLE")?.try_into()?,
            conns: take(ebpf, "CONNS")?.try_into()?,
            scan_all: take(ebpf, "SCAN_ALL")?.try_into()?,
            lost: take(ebpf, "LOST")?.try_into()?,
            told: [0; loss::KINDS],
        })
    }

    /// Adds a process unless it is known by now.
    pub fn seed_task(&mut self, pid: u32, task: Task) -> Result<(), MapError> {
        unless_there(self.tasks.insert(pid, Plain(task), NOEXIST))
    }

    /// Adds a stream unless it is known by now.
    pub fn seed_stream(&mut self, key: u64, stream: StreamState) -> Result<(), MapError> {
        unless_there(self.streams.insert(key, Plain(stream), NOEXIST))
    }

    /// Adds a session.
    pub fn seed_session(&mut self, id: u64, session: Session) -> Result<(), MapError> {
        unless_there(self.sessions.insert(id, Plain(session), NOEXIST))
    }

    /// Adds a connection.
    pub fn seed_conn(&mut self, sock: u64, server: u32) -> Result<(), MapError> {
        unless_there(self.conns.insert(sock, server, NOEXIST))
    }

    /// Whether a process is a member of the session, or a server: then it has been described.
    pub fn is_known(&self, pid: u32, session: u64) -> bool {
        self.tasks
            .get(&pid, 0)
            .is_ok_and(|task| task.0.session == session || task.0.flags & role::SERVER != 0)
    }

    /// Whether a process is a server.
    pub fn is_server(&self, pid: u32) -> bool {
        self.tasks
            .get(&pid, 0)
            .is_ok_and(|task| task.0.flags & role::SERVER != 0)
    }

    /// Whether the next walk tells every pipe, or the streams only.
    pub fn scan_all(&mut self, all: bool) -> Result<(), MapError> {
        self.scan_all.set(0, u32::from(all), 0)
    }

    /// The streams of a session as counted so far.
    pub fn streams(&self, session: u64) -> impl Iterator<Item = StreamState> + '_ {
        self.keys(session).into_iter().filter_map(move |key| {
            let state = self.streams.get(&key, 0).ok()?.0;
            (state.session == session).then_some(state)
        })
    }

    fn keys(&self, session: u64) -> impl IntoIterator<Item = u64> + use<> {
        let keys = self
            .sessions
            .get(&session, 0)
            .map_or([0; STREAMS], |session| session.0.streams);
        let mut keys = keys.to_vec();
        keys.retain(|key| *key != 0);
        keys.dedup();
        keys
    }

    /// Drops a session that is over.
    pub fn forget(&mut self, session: u64) {
        for key in self.keys(session) {
            if self
                .streams
                .get(&key, 0)
                .is_ok_and(|state| state.0.session == session)
            {
                // Gone already where the kernel tells of the object's end.
                let _ = self.streams.remove(&key);
            }
        }
        let _ = self.sessions.remove(&session);
    }

    /// Drops pipes of servers that are no more and that never became streams.
    pub fn sweep(&mut self) {
        let dead: Vec<u64> = self
            .streams
            .iter()
            .flatten()
            .filter(|(_, state)| {
                state.0.session == 0 && self.tasks.get(&state.0.server, 0).is_err()
            })
            .map(|(key, _)| key)
            .collect();
        for key in dead {
            let _ = self.streams.remove(&key);
        }
    }

    /// What was lost since the last call, by [`loss`] kind; `None` for nothing.
    pub fn new_losses(
        &mut self,
        skipped: &mut Skipped,
    ) -> Result<Option<[u64; loss::KINDS]>, MapError> {
        let mut new = [0; loss::KINDS];
        for (kind, told) in self.told.iter_mut().enumerate() {
            let total: u64 = self.lost.get(&(kind as u32), 0)?.iter().sum();
            new[kind] = total.saturating_sub(*told);
            *told = total;
        }
        new[loss::SKIPPED as usize] += skipped.new_ones();
        Ok(new.iter().any(|count| *count != 0).then_some(new))
    }
}

/// `EEXIST` is what a seed expects when the kernel side was faster.
fn unless_there(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::EEXIST) =>
        {
            Ok(())
        }
        other => other,
    }
}
