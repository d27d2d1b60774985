//! The kernel side's tables, as user space seeds, samples and cleans them.

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

/// `BPF_NOEXIST` of include/uapi/linux/bpf.h: what the kernel side already knows, it knows better.
const NOEXIST: u64 = 1;

/// A stream that was taken for another is back before a process can have been made for it: what takes
/// that long is one of three pipes, a fork, and an exec or a read.
const BACK_WITHIN: Duration = Duration::from_micros(100);

type Streams = HashMap<MapData, u64, Plain<StreamState>>;

/// Handles to the tables of one load.
pub struct Tables {
    tasks: HashMap<MapData, u32, Plain<Task>>,
    sessions: HashMap<MapData, u64, Plain<Session>>,
    streams: Streams,
    conns: HashMap<MapData, u64, u32>,
    scan_all: Array<MapData, u32>,
    lost: PerCpuArray<MapData, [u64; loss::KINDS]>,
    carry_over: Array<MapData, u64>,
    /// What is in `carry_over`, once it has been read: nobody else writes to it. Each call of a map costs
    /// more than its time: the kernel skips kprobes' programs on a CPU where one was preempted
    /// (`bpf_disable_instrumentation`, include/linux/bpf.h).
    told: Option<[u64; carry_over::ENTRIES as usize]>,
    /// Streams that were away while something may have been done with them.
    away: u64,
}

/// Tells the kernel side which executables are servers; before anything is attached.
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
    // An earlier load may have had others.
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

/// The number of the load whose programs work, as pinned tables tell.
pub fn on_duty(root: &Root) -> Option<u64> {
    let duty: Array<_, u64> = pins::table(root, "ACTIVE_LOAD").ok()?.try_into().ok()?;
    duty.get(&0, 0).ok()
}

/// From here on the programs of this load work, and those of no other.
pub fn take_duty(side: &mut KernelObjects, number: u64) -> Result<(), MapError> {
    let mut duty: Array<_, u64> = side.take_map("ACTIVE_LOAD")?.try_into()?;
    duty.set(0, number, 0)
}

/// The ring buffer.
pub fn ring(side: &mut KernelObjects) -> Result<RingBuf<MapData>, MapError> {
    side.take_map("RECORDS")?.try_into()
}

/// Text as a NUL-padded array, cut to leave a NUL.
pub fn fixed<const N: usize>(text: &str) -> [u8; N] {
    let mut out = [0; N];
    let len = text.len().min(N - 1);
    out[..len].copy_from_slice(&text.as_bytes()[..len]);
    out
}

impl Tables {
    pub fn take(side: &mut KernelObjects) -> Result<Self, MapError> {
        Ok(Self {
            tasks: side.take_map("TASKS")?.try_into()?,
            sessions: side.take_map("SESSIONS")?.try_into()?,
            streams: side.take_map("STREAM_TABLE")?.try_into()?,
            conns: side.take_map("CONNS")?.try_into()?,
            scan_all: side.take_map("SCAN_ALL")?.try_into()?,
            lost: side.take_map("LOST")?.try_into()?,
            carry_over: side.take_map("CARRY_OVER")?.try_into()?,
            told: None,
            away: 0,
        })
    }

    /// How many times the ring has been emptied, by earlier tracers too.
    pub fn taken(&mut self) -> Result<u64, MapError> {
        self.told(carry_over::DRAINS)
    }

    /// The ring is going to be emptied once more: what is taken from it has to be kept by someone else.
    pub fn taking(&mut self) -> Result<u64, MapError> {
        let number = self.taken()? + 1;
        self.tell(carry_over::DRAINS, number)?;
        Ok(number)
    }

    /// The session that a stream belongs to.
    pub fn session_of(&self, key: u64) -> Option<u64> {
        let session = self.streams.get(&key, 0).ok()?.0.session;
        (session != 0).then_some(session)
    }

    /// Drops every session that is not among these: one that ended while there was no tracer.
    pub fn keep_only(&mut self, open: &HashSet<u64>) {
        let there: Vec<u64> = self.sessions.keys().flatten().collect();
        for session in there.into_iter().filter(|session| !open.contains(session)) {
            self.forget(session);
        }
    }

    /// Every session that has a stream.
    pub fn all_sessions(&self) -> Vec<u64> {
        let sessions = self
            .streams
            .iter()
            .flatten()
            .map(|(_, state)| state.0.session);
        sessions.filter(|session| *session != 0).collect()
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
    pub fn seed_conn(&mut self, sock: u64) -> Result<(), MapError> {
        unless_there(self.conns.insert(sock, 0, NOEXIST))
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
            // Gone already where the kernel tells of the object's end.
            let is_over = |state: &StreamState| state.session == session;
            self.away += drop_stream(&mut self.streams, key, is_over);
        }
        let _ = self.sessions.remove(&session);
    }

    /// Drops pipes of servers that are no more and that never became streams.
    pub fn sweep(&mut self) {
        let tasks = &self.tasks;
        let is_over =
            |state: &StreamState| state.session == 0 && tasks.get(&state.server, 0).is_err();
        let dead: Vec<u64> = self
            .streams
            .iter()
            .flatten()
            .filter(|(_, state)| is_over(&state.0))
            .map(|(key, _)| key)
            .collect();
        for key in dead {
            self.away += drop_stream(&mut self.streams, key, is_over);
        }
    }

    /// What was lost since the last call, or since the last that an earlier tracer made, by [`loss`]
    /// kind; `None` for nothing.
    pub fn new_losses(
        &mut self,
        skipped: &mut Skipped,
    ) -> Result<Option<[u64; loss::KINDS]>, MapError> {
        let mut new = [0; loss::KINDS];
        let by_cpu = self.lost.get(&0, 0)?;
        for (kind, new) in new.iter_mut().enumerate() {
            let total: u64 = by_cpu.iter().map(|counts| counts[kind]).sum();
            *new = self.untold(carry_over::LOST + kind as u32, total)?;
        }
        new[loss::STREAMS as usize] += std::mem::take(&mut self.away);
        let (skipped, total) = skipped.look(self.told(carry_over::SKIPPED)?);
        self.untold(carry_over::SKIPPED, total)?;
        new[loss::SKIPPED as usize] += skipped;
        Ok(new.iter().any(|count| *count != 0).then_some(new))
    }

    /// How much of a total has not been told; it is now.
    fn untold(&mut self, entry: u32, total: u64) -> Result<u64, MapError> {
        let told = self.told(entry)?;
        self.tell(entry, total)?;
        Ok(total.saturating_sub(told))
    }

    /// What the next tracer would be left.
    fn told(&mut self, entry: u32) -> Result<u64, MapError> {
        let told = match self.told {
            Some(told) => told,
            None => {
                let mut told = [0; carry_over::ENTRIES as usize];
                for (entry, told) in told.iter_mut().enumerate() {
                    *told = self.carry_over.get(&(entry as u32), 0)?;
                }
                *self.told.insert(told)
            }
        };
        Ok(told[entry as usize])
    }

    /// Leaves it to the next tracer.
    fn tell(&mut self, entry: u32, value: u64) -> Result<(), MapError> {
        if self.told(entry)? != value {
            self.carry_over.set(entry, value, 0)?;
        }
        if let Some(told) = &mut self.told {
            told[entry as usize] = value;
        }
        Ok(())
    }
}

/// Drops a stream that is over. Meanwhile a server may make another at the same address, which must not
/// be dropped in its place: gives 1 if it was, and something may have been done with it by then.
fn drop_stream(streams: &mut Streams, key: u64, is_over: impl Fn(&StreamState) -> bool) -> u64 {
    if !streams.get(&key, 0).is_ok_and(|state| is_over(&state.0)) {
        return 0;
    }
    let began = Instant::now();
    match lookup_and_delete::<_, Plain<StreamState>>(streams.map().fd(), &key) {
        Ok(Some(other)) if !is_over(&other.0) => {
            // Unless there is a still newer one.
            let _ = streams.insert(key, other, NOEXIST);
            u64::from(other.0.session != 0 || began.elapsed() > BACK_WITHIN)
        }
        Ok(_) => 0,
        Err(_) => {
            // Before 5.14 the two cannot be done in one step.
            let _ = streams.remove(&key);
            0
        }
    }
}

/// `EEXIST` is what a seed expects when the kernel side was faster. A table that is full (`E2BIG`) has no
/// room for what the model knows to have begun before the tracer, and to have a gap, anyway.
fn unless_there(result: Result<(), MapError>) -> Result<(), MapError> {
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

    use super::{super::load::OBJECT, *};
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
        assert_eq!(drop_stream(&mut streams, 1, |it| it.session == 7), 0);
        assert!(streams.get(&1, 0).is_err(), "it was over");

        // Another is made right after the first look, with and without a session of its own.
        for (other, lost) in [(0, 0), (8, 1)] {
            streams.insert(1, state(7), 0).unwrap();
            let dropped = drop_stream(&mut streams, 1, |it| {
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
