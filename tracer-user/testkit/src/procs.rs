//! What is true about processes, read from /proc without the tracer's help.
//!
//! A session is found again by its marker, an environment variable that every descendant inherits
//! and that no exec can lose.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::sys;

/// Name of the environment variable that carries the marker into a session.
pub const MARK: &str = "LB_MARK";

/// How often /proc is looked at while waiting for something that announces itself nowhere else.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// One process, identified so that a reused pid is not mistaken for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Parent's process id.
    pub parent: u32,
    /// Start time in clock ticks since boot.
    pub start: u64,
    /// `R`, `S`, `Z`, … as in proc(5).
    pub state: char,
}

impl Process {
    /// The process that has this pid now.
    #[must_use]
    pub fn now(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // comm may hold spaces and parentheses: the fields begin after the last one.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        Some(Self {
            pid,
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
        })
    }

    /// Whether it still runs (a zombie does not).
    #[must_use]
    pub fn alive(&self) -> bool {
        Self::now(self.pid).is_some_and(|now| now.start == self.start && now.state != 'Z')
    }

    /// Waits until it no longer runs.
    ///
    /// # Errors
    /// When `patience` is over first.
    pub fn gone(&self, patience: Duration) -> anyhow::Result<()> {
        poll(patience, &format!("the end of pid {}", self.pid), || {
            (!self.alive()).then_some(())
        })
    }

    /// Signals it, unless it has ended already.
    pub fn signal(&self, signal: i32) {
        if self.alive() {
            // It may end between the two calls; there is nothing to do then.
            drop(sys::kill(self.pid, signal));
        }
    }
}

/// Pids of all processes.
fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Processes of the session with this marker that still run.
#[must_use]
pub fn marked(marker: &str) -> Vec<Process> {
    let wanted = format!("{MARK}={marker}").into_bytes();
    pids()
        .into_iter()
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
                environment
                    .split(|&byte| byte == 0)
                    .any(|one| one == wanted)
            })
        })
        .filter_map(Process::now)
        .filter(|process| process.state != 'Z')
        .collect()
}

/// Ends every process of the session with this marker that still runs.
pub fn end(marker: &str) {
    for process in marked(marker) {
        process.signal(libc::SIGKILL);
    }
}

/// Waits for the session with this marker to start; gives its leader.
///
/// # Errors
/// When no such session starts within `patience`.
pub fn leader(marker: &str, patience: Duration) -> anyhow::Result<Process> {
    poll(patience, &format!("the leader of {marker}"), || {
        let all = marked(marker);
        let members: BTreeSet<u32> = all.iter().map(|one| one.pid).collect();
        // A child of pid 1 is a left-over, not the leader.
        all.into_iter()
            .find(|one| one.parent > 1 && !members.contains(&one.parent))
    })
}

/// One open descriptor of a pipe or socket.
#[derive(Clone, Debug)]
struct End {
    fd: i32,
    object: String,
    readable: bool,
    writable: bool,
}

fn ends(pid: u32) -> Vec<End> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let fd: i32 = entry.file_name().to_str()?.parse().ok()?;
            let object = fs::read_link(entry.path()).ok()?.to_str()?.to_owned();
            if !object.starts_with("pipe:[") && !object.starts_with("socket:[") {
                return None;
            }
            let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
            let flags = i32::from_str_radix(flags.trim(), 8).ok()?;
            let access = flags & libc::O_ACCMODE;
            Some(End {
                fd,
                object,
                readable: access != libc::O_WRONLY,
                writable: access != libc::O_RDONLY,
            })
        })
        .collect()
}

/// Descriptors of the process that are links to `object`, such as `anon_inode:[io_uring]`.
#[must_use]
pub fn open_as(pid: u32, object: &str) -> BTreeSet<i32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return BTreeSet::new();
    };
    entries
        .flatten()
        .filter(|entry| fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == object))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The process's pid in its own pid namespace.
#[must_use]
pub fn own_pid(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let pids = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    pids.split_whitespace().last()?.parse().ok()
}

/// Base name of the file that the process executes.
fn executable(pid: u32) -> Option<String> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(
        path.file_name()?
            .to_str()?
            .trim_end_matches(" (deleted)")
            .to_owned(),
    )
}

/// Executables that read a session's output in these tests.
const SERVERS: &[&str] = &["sshd", "sshd-session", "dropbear", "eager"];

/// Who can still write to the output streams of the session with this marker: pid to descriptors.
///
/// An output stream is a pipe whose read end an SSH server has open.
#[must_use]
pub fn holders(marker: &str) -> BTreeMap<u32, BTreeSet<i32>> {
    let read_by_servers: BTreeSet<String> = pids()
        .into_iter()
        .filter(|&pid| executable(pid).is_some_and(|name| SERVERS.contains(&name.as_str())))
        .flat_map(ends)
        .filter(|end| end.readable && end.object.starts_with("pipe:["))
        .map(|end| end.object)
        .collect();
    let mut holders = BTreeMap::new();
    for process in marked(marker) {
        let fds: BTreeSet<i32> = ends(process.pid)
            .into_iter()
            .filter(|end| end.writable && read_by_servers.contains(&end.object))
            .map(|end| end.fd)
            .collect();
        if !fds.is_empty() {
            holders.insert(process.pid, fds);
        }
    }
    holders
}

/// How many processes wait in open(2) for a writer of this fifo: their command line names it.
#[must_use]
pub fn readers_of(fifo: &Path) -> usize {
    let name = fifo.as_os_str().as_encoded_bytes();
    let waits = |pid: &u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = words.split(|&byte| byte == 0);
        words.next() == Some(b"cat") && words.next() == Some(name)
    };
    pids().iter().filter(|pid| waits(pid)).count()
}

/// The server's end of a pipe of its leader, as a path that can be opened.
///
/// # Errors
/// When `leader` has no pipe at `fd`, or `server` has no read end of it.
pub fn server_end(server: u32, leader: u32, fd: i32) -> anyhow::Result<PathBuf> {
    let link = fs::read_link(format!("/proc/{leader}/fd/{fd}"))
        .with_context(|| format!("pid {leader} has no fd {fd}"))?;
    let end = ends(server)
        .into_iter()
        .find(|end| end.readable && link.as_os_str() == end.object.as_str())
        .with_context(|| format!("pid {server} does not read {}", link.display()))?;
    Ok(PathBuf::from(format!("/proc/{server}/fd/{}", end.fd)))
}

/// Waits until the number of unread bytes behind `end` is what `enough` asks for and stands still.
///
/// # Errors
/// When that does not happen within `patience`.
pub fn quiescent(
    end: &Path,
    patience: Duration,
    enough: impl Fn(u64) -> bool,
) -> anyhow::Result<u64> {
    let mut last = (u64::MAX, Instant::now());
    poll(
        patience,
        &format!("{} to stand still", end.display()),
        || {
            let unread = sys::unread(end).ok()?;
            if unread != last.0 {
                last = (unread, Instant::now());
            }
            (enough(unread) && last.1.elapsed() > Duration::from_millis(150)).then_some(unread)
        },
    )
}

/// Looks until `look` finds something.
///
/// # Errors
/// When `patience` is over first; the message names `what`.
pub fn poll<T>(
    patience: Duration,
    what: &str,
    look: impl FnMut() -> Option<T>,
) -> anyhow::Result<T> {
    poll_every(LOOK_AGAIN, patience, what, look)
}

/// As [`poll`], with this time between two looks: for one that takes long itself.
///
/// # Errors
/// As [`poll`].
pub fn poll_every<T>(
    pause: Duration,
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("waited {:.0} s in vain for {what}", patience.as_secs_f32());
        }
        thread::sleep(pause);
    }
}

/// A child process that does not outlive its owner.
#[derive(Debug)]
pub struct Owned(pub Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // Both fail only when it has been waited for already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
