//! What was there before the tracer: servers, their sessions, the holders of each stream.
//!
//! The snapshot is made after the programs are attached, so nothing is missed in between. It only adds
//! to the kernel side's tables: what the programs have learned meanwhile stays.

mod world;

use std::collections::{BTreeMap, HashSet};

use aya::maps::MapError;
use procfs::process::Process;
use tracer_ebpf::{ARGV_LEN, Exec, Fork, Header, Holder, Kind, SessionStart, Task, role};
use zerocopy::FromZeros;

use self::world::World;
use super::{
    kernel_objects::KernelObjects,
    role_of,
    scan::ScanError,
    sink::KnownSession,
    tables::{Tables, fixed},
};

/// The records of a snapshot.
pub struct Snapshot {
    /// Servers, and the members of sessions.
    pub processes: Vec<Exec>,
    /// Open sessions.
    pub sessions: Vec<SessionStart>,
}

/// A snapshot cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error("filling the kernel side's tables: {0}")]
    Tables(#[from] MapError),
}

/// Makes the snapshot, and adds what it finds to the kernel side's tables.
///
/// `names` are the base names of servers' executables, `known` the sessions that an earlier tracer
/// knew, `time` the time of the records in ns of `CLOCK_BOOTTIME`.
pub fn capture(
    objects: &mut KernelObjects,
    tables: &mut Tables,
    names: &[String],
    known: &[KnownSession],
    time: u64,
) -> Result<Snapshot, SnapshotError> {
    tables.scan_all(true)?;
    let world = World::read(objects, names);
    tables.scan_all(false)?;
    let world = world?;

    let mut found = world.sessions(time);
    for session in &mut found {
        session.recognise(tables, known);
    }
    let mut members: BTreeMap<u32, u64> = BTreeMap::new();
    for session in &found {
        world.seed(tables, session)?;
        if session.start.leader.pid != 0 {
            world.descendants(session.start.leader.pid, |pid| {
                members.insert(pid, session.start.session);
            });
        }
        // Where the leader has exited, the session's other processes are known by what they hold.
        for holder in session.keys.iter().flat_map(|key| world.holders(*key)) {
            if !world.servers.contains(&holder.proc.pid) {
                members
                    .entry(holder.proc.pid)
                    .or_insert(session.start.session);
            }
        }
    }
    let leaders: HashSet<u32> = found
        .iter()
        .map(|session| session.start.leader.pid)
        .collect();
    let mut processes = Vec::new();
    for (pid, process) in &world.processes {
        let session = members.get(pid).copied().unwrap_or(0);
        let flags = if leaders.contains(pid) {
            role::LEADER
        } else if world.servers.contains(pid) {
            role_of(&exe_name(*pid))
        } else if session != 0 {
            0
        } else {
            continue;
        };
        tables.seed_task(
            *pid,
            Task {
                session,
                start: process.child.start,
                flags,
                execs: 0,
            },
        )?;
        processes.push(describe(process, session, flags, time));
    }
    Ok(Snapshot {
        processes,
        sessions: found.into_iter().map(|session| session.start).collect(),
    })
}

/// Describes a process that began before the tracer.
fn describe(process: &Fork, session: u64, flags: u32, time: u64) -> Exec {
    let mut exec = Exec::new_zeroed();
    exec.header = Header::new(Kind::Process, time);
    exec.session = session;
    exec.proc = process.child;
    exec.parent = process.parent.pid;
    exec.uid = process.uid;
    exec.flags = flags;
    exec.comm = process.comm;
    add_argv(&mut exec);
    exec
}

/// Describes a holder that belongs to no session.
pub fn describe_holder(holder: &Holder) -> Exec {
    let mut exec = Exec::new_zeroed();
    exec.header = Header::new(Kind::Process, holder.header.time);
    exec.proc = holder.proc;
    exec.parent = holder.parent;
    exec.uid = holder.uid;
    exec.comm = holder.comm;
    add_argv(&mut exec);
    exec
}

/// Adds executable and arguments from /proc.
fn add_argv(exec: &mut Exec) {
    let pid = exec.proc.pid;
    exec.exe = fixed(&exe_name(pid));
    let argv = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let len = argv.len().min(ARGV_LEN);
    exec.argv[..len].copy_from_slice(&argv[..len]);
    exec.argv_len = len as u32;
    exec.argv_full = argv.len() as u32;
}

/// Base name of a process's executable file; empty for a kernel thread or a process that has ended.
fn exe_name(pid: u32) -> String {
    let link = Process::new(pid.cast_signed()).and_then(|process| process.exe());
    let name = link
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    // A server that was upgraded still runs the old file.
    name.map(|name| {
        name.strip_suffix(" (deleted)")
            .map(str::to_owned)
            .unwrap_or(name)
    })
    .unwrap_or_default()
}
