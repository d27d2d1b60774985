//! User space's access to the kernel side's tables: it seeds, samples and cleans them, and carries the
//! counts of losses over to the next tracer.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, IterableMap as _, MapData, MapError, PerCpuArray, RingBuf},
};
use tracer_ebpf::{EXE_LEN, STREAMS, Session, StreamState, Task, carry_over, loss, role};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{
    kernel_objects::KernelObjects,
    lookup_and_delete::lookup_and_delete,
    pins::{self, Root},
    role_of,
    skipped::Skipped,
};

/// Gives the ABI's own structs the trait that aya wants of a map's value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Plain<T>(T);

// SAFETY: T has no padding and every bit pattern is a T, as its traits prove.
unsafe impl<T: Copy + FromBytes + IntoBytes + Immutable + 'static> Pod for Plain<T> {}

/// `BPF_NOEXIST` of include/uapi/linux/bpf.h. Entries of the kernel side are never overwritten: it
/// knows better.
const NOEXIST: u64 = 1;

/// A stream that was removed by mistake is back within this time, before it can belong to a session:
/// that takes two more pipes, a fork, and an exec or a read.
const BACK_WITHIN: Duration = Duration::from_micros(100);

type Streams = HashMap<MapData, u64, Plain<StreamState>>;

/// The tables of one load.
pub struct Tables {
    tasks: HashMap<MapData, u32, Plain<Task>>,
    sessions: HashMap<MapData, u64, Plain<Session>>,
    streams: Streams,
    conns: HashMap<MapData, u64, u32>,
    scan_all: Array<MapData, u32>,
    lost: PerCpuArray<MapData, [u64; loss::KINDS]>,
    carry_over: Array<MapData, u64>,
    /// Copy of the map, once it has been read: only this process writes to it. A map operation costs
    /// more than its time, because the kernel skips programs of kprobes on the CPU meanwhile
    /// (`bpf_disable_instrumentation`, include/linux/bpf.h).
    carried_over: Option<[u64; carry_over::ENTRIES as usize]>,
    /// Number of streams that were removed by mistake and may have missed an event before they were
    /// put back.
    misplaced: u64,
}

/// Gives the kernel side the names of servers' executables. To be called before anything is attached.
pub fn name_servers(ebpf: &mut Ebpf, names: &[String]) -> Result<(), MapError> {
    let map = ebpf
        .map_mut("SERVERS")
        .ok_or_else(|| MapError::InvalidName {
            name: "SERVERS".to_owned(),
        })?;
    let mut servers: HashMap<_, [u8; EXE_LEN], u32> = map.try_into()?;
    let names: Vec<([u8; EXE_LEN], u32)> = names
        .iter()
        .map(|name| (fixed(name), role_of(name)))
        .collect();
    // An earlier load may have had other names.
    let old: Vec<_> = servers.keys().flatten().collect();
    let is_named = |old: &[u8; EXE_LEN]| names.iter().any(|(name, _)| name == old);
    for name in old.iter().filter(|name| !is_named(name)) {
        servers.remove(name)?;
    }
    for (name, role) in names {
        servers.insert(name, role, 0)?;
    }
    Ok(())
}

/// Id of the active load, from pinned tables; `None` when it cannot be read.
pub fn active_load(root: &Root) -> Option<u64> {
    let active: Array<_, u64> = pins::table(root, "ACTIVE_LOAD").ok()?.try_into().ok()?;
    active.get(&0, 0).ok()
}

/// Makes this load the active one: from now on its programs work, and those of no other load.
pub fn activate(objects: &mut KernelObjects, id: u64) -> Result<(), MapError> {
    let mut active: Array<_, u64> = objects.take_map("ACTIVE_LOAD")?.try_into()?;
    active.set(0, id, 0)
}

/// The ring buffer.
pub fn ring(objects: &mut KernelObjects) -> Result<RingBuf<MapData>, MapError> {
    objects.take_map("RECORDS")?.try_into()
}

/// Text as a NUL-padded array. A longer text is cut so that it ends with a NUL.
pub fn fixed<const N: usize>(text: &str) -> [u8; N] {
    let mut out = [0; N];
    let len = text.len().min(N - 1);
    out[..len].copy_from_slice(&text.as_bytes()[..len]);
    out
}

impl Tables {
    /// Takes all tables but the ring buffer.
    pub fn open(objects: &mut KernelObjects) -> Result<Self, MapError> {
        Ok(Self {
            tasks: objects.take_map("TASKS")?.try_into()?,
            sessions: objects.take_map("SESSIONS")?.try_into()?,
            streams: objects.take_map("STREAM_TABLE")?.try_into()?,
            conns: objects.take_map("CONNS")?.try_into()?,
            scan_all: objects.take_map("SCAN_ALL")?.try_into()?,
            lost: objects.take_map("LOST")?.try_into()?,
            carry_over: objects.take_map("CARRY_OVER")?.try_into()?,
            carried_over: None,
            misplaced: 0,
        })
    }

    /// How many times the ring buffer has been drained, including by earlier tracers.
    pub fn drains(&mut self) -> Result<u64, MapError> {
        self.carried_over(carry_over::DRAINS)
    }

    /// Counts one more drain of the ring buffer, before the first record is removed from it. Returns
    /// its number.
    pub fn begin_drain(&mut self) -> Result<u64, MapError> {
        let number = self.drains()? + 1;
        self.carry_over(carry_over::DRAINS, number)?;
        Ok(number)
    }

    /// The session that a stream belongs to, if it belongs to one.
    pub fn session_of(&self, key: u64) -> Option<u64> {
        let session = self.streams.get(&key, 0).ok()?.0.session;
        (session != 0).then_some(session)
    }

    /// Removes every session that is not among these: it ended while there was no tracer.
    pub fn keep_only(&mut self, open: &HashSet<u64>) {
        let there: Vec<u64> = self.sessions.keys().flatten().collect();
        for session in there.into_iter().filter(|session| !open.contains(session)) {
            self.forget(session);
        }
    }

    /// Ids of all sessions that have a stream.
    pub fn all_sessions(&self) -> Vec<u64> {
        let sessions = self
            .streams
            .iter()
            .flatten()
            .map(|(_, state)| state.0.session);
        sessions.filter(|session| *session != 0).collect()
    }

    /// Adds a process, unless the kernel side has added it meanwhile.
    pub fn seed_task(&mut self, pid: u32, task: Task) -> Result<(), MapError> {
        ignore_expected(self.tasks.insert(pid, Plain(task), NOEXIST))
    }

    /// Adds a stream, unless the kernel side has added it meanwhile.
    pub fn seed_stream(&mut self, key: u64, stream: StreamState) -> Result<(), MapError> {
        ignore_expected(self.streams.insert(key, Plain(stream), NOEXIST))
    }

    /// Adds a session, unless the kernel side has added it meanwhile.
    pub fn seed_session(&mut self, id: u64, session: Session) -> Result<(), MapError> {
        ignore_expected(self.sessions.insert(id, Plain(session), NOEXIST))
    }

    /// Adds a connection, unless the kernel side has added it meanwhile.
    pub fn seed_conn(&mut self, sock: u64) -> Result<(), MapError> {
        ignore_expected(self.conns.insert(sock, 0, NOEXIST))
    }

    /// Whether a process is a member of the session, or a server. If so, a record has described it.
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

    /// Makes the next scans report every pipe, unix socket and pty, or only the ends of streams.
    pub fn scan_all(&mut self, all: bool) -> Result<(), MapError> {
        self.scan_all.set(0, u32::from(all), 0)
    }

    /// The streams of a session with their counters.
    pub fn streams(&self, session: u64) -> impl Iterator<Item = StreamState> + '_ {
        self.keys(session).into_iter().filter_map(move |key| {
            let state = self.streams.get(&key, 0).ok()?.0;
            (state.session == session).then_some(state)
        })
    }

    /// Keys of a session's streams.
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

    /// Removes a session that has ended.
    pub fn forget(&mut self, session: u64) {
        for key in self.keys(session) {
            // Where the kernel reports that the object is freed, the stream has been removed already.
            let is_ended = |state: &StreamState| state.session == session;
            self.misplaced += remove_stream(&mut self.streams, key, is_ended);
        }
        let _ = self.sessions.remove(&session);
    }

    /// Removes objects of servers that have ended, if they never became streams of a session.
    pub fn sweep(&mut self) {
        let tasks = &self.tasks;
        let is_ended =
            |state: &StreamState| state.session == 0 && tasks.get(&state.server, 0).is_err();
        let dead: Vec<u64> = self
            .streams
            .iter()
            .flatten()
            .filter(|(_, state)| is_ended(&state.0))
            .map(|(key, _)| key)
            .collect();
        for key in dead {
            self.misplaced += remove_stream(&mut self.streams, key, is_ended);
        }
    }

    /// Number of losses by [`loss`] kind since the last call, which an earlier tracer may have made;
    /// `None` when nothing was lost.
    pub fn new_losses(
        &mut self,
        skipped: &mut Skipped,
    ) -> Result<Option<[u64; loss::KINDS]>, MapError> {
        let mut new = [0; loss::KINDS];
        let by_cpu = self.lost.get(&0, 0)?;
        for (kind, new) in new.iter_mut().enumerate() {
            let total: u64 = by_cpu.iter().map(|counts| counts[kind]).sum();
            *new = self.report_total(carry_over::LOST + kind as u32, total)?;
        }
        new[loss::STREAMS as usize] += std::mem::take(&mut self.misplaced);
        let (skipped, total) = skipped.read(self.carried_over(carry_over::SKIPPED)?);
        self.report_total(carry_over::SKIPPED, total)?;
        new[loss::SKIPPED as usize] += skipped;
        Ok(new.iter().any(|count| *count != 0).then_some(new))
    }

    /// How much of a total has not been reported yet. From now on it has.
    fn report_total(&mut self, entry: u32, total: u64) -> Result<u64, MapError> {
        let reported = self.carried_over(entry)?;
        self.carry_over(entry, total)?;
        Ok(total.saturating_sub(reported))
    }

    /// The value of an entry of [`carry_over`].
    fn carried_over(&mut self, entry: u32) -> Result<u64, MapError> {
        let values = match self.carried_over {
            Some(values) => values,
            None => {
                let mut values = [0; carry_over::ENTRIES as usize];
                for (entry, value) in values.iter_mut().enumerate() {
                    *value = self.carry_over.get(&(entry as u32), 0)?;
                }
                *self.carried_over.insert(values)
            }
        };
        Ok(values[entry as usize])
    }

    /// Sets an entry of [`carry_over`] for this tracer and the next.
    fn carry_over(&mut self, entry: u32, value: u64) -> Result<(), MapError> {
        if self.carried_over(entry)? != value {
            self.carry_over.set(entry, value, 0)?;
        }
        if let Some(values) = &mut self.carried_over {
            values[entry as usize] = value;
        }
        Ok(())
    }
}

/// Removes a stream that has ended.
///
/// Meanwhile a server may make another stream at the same address, which must not be removed in its
/// place. If that happens, the other is put back. Returns 1 if it may have missed an event meanwhile,
/// otherwise 0.
fn remove_stream(streams: &mut Streams, key: u64, is_ended: impl Fn(&StreamState) -> bool) -> u64 {
    if !streams.get(&key, 0).is_ok_and(|state| is_ended(&state.0)) {
        return 0;
    }
    let began = Instant::now();
    match lookup_and_delete::<_, Plain<StreamState>>(streams.map().fd(), &key) {
        Ok(Some(other)) if !is_ended(&other.0) => {
            // Does nothing if there is a still newer one.
            let _ = streams.insert(key, other, NOEXIST);
            u64::from(other.0.session != 0 || began.elapsed() > BACK_WITHIN)
        }
        Ok(_) => 0,
        Err(_) => {
            // Before 5.14 this cannot be done in one step.
            let _ = streams.remove(&key);
            0
        }
    }
}

/// Ignores two errors of a seed. `EEXIST`: the kernel side was faster, and knows better. `E2BIG`: the
/// table is full; the model knows anyway that the session began before the tracer and has a gap.
fn ignore_expected(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::SyscallError(error))
            if matches!(
                error.io_error.raw_os_error(),
                Some(libc::EEXIST | libc::E2BIG)
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, os::fd::AsFd as _};

    use aya::maps::Map;

    use super::{super::object::OBJECT, *};
    use crate::skipped::skipped;

    fn state(session: u64) -> Plain<StreamState> {
        Plain(StreamState {
            session,
            ..StreamState::NEW
        })
    }

    #[test]
    fn a_stream_made_meanwhile_is_not_dropped() {
        if !rustix::process::geteuid().is_root() {
            skipped(
                "a_stream_made_meanwhile_is_not_dropped",
                "only root may create BPF maps",
            );
            return;
        }
        let mut ebpf = Ebpf::load(OBJECT).unwrap();
        let mut streams: Streams = ebpf.take_map("STREAM_TABLE").unwrap().try_into().unwrap();
        let fd = streams.map().fd().as_fd().try_clone_to_owned().unwrap();
        let map = Map::from_map_data(MapData::from_fd(fd).unwrap()).unwrap();
        let kernel: RefCell<Streams> = RefCell::new(map.try_into().unwrap());

        streams.insert(1, state(7), 0).unwrap();
        assert_eq!(remove_stream(&mut streams, 1, |it| it.session == 7), 0);
        assert!(streams.get(&1, 0).is_err(), "it was over");

        // Another is made right after the first look, with and without a session of its own.
        for (other, lost) in [(0, 0), (8, 1)] {
            streams.insert(1, state(7), 0).unwrap();
            let dropped = remove_stream(&mut streams, 1, |it| {
                let is_over = it.session == 7;
                if is_over {
                    kernel.borrow_mut().insert(1, state(other), 0).unwrap();
                }
                is_over
            });
            assert_eq!(streams.get(&1, 0).unwrap().0.session, other);
            assert!(dropped >= lost, "{dropped}");
        }
    }
}
