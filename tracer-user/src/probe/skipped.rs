//! Counts the runs of programs that the kernel skipped because the program was already running on
//! that CPU, and had been preempted: `recursion_misses` (`bpf_prog_show_fdinfo`, kernel/bpf/syscall.c;
//! since 5.12).

use std::{
    fs::File,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::FileExt,
    },
};

use super::kernel_objects::{KernelObjects, Program};

/// Programs of which every run reports something that nothing else does.
///
/// A skipped run of any other program is made up for: counters by the object itself, the delivery of
/// SIGCHLD by the exit, the signal that ended a server by its exit status; or only a name is missing.
/// The programs for system calls run for every process, so their misses say little; the kernel side
/// notices when the end of a pending call was skipped.
const COUNTED: &[&str] = &[
    "inet_sock_set_state",
    "pipe_create",
    "pipe_release",
    "process_exec",
    "process_exit",
    "process_fork",
    "tty_release",
    "unix_pair",
    "unix_release",
];

/// The counters of the programs that are loaded.
pub struct Skipped {
    groups: Vec<Group>,
    /// Whether they have been read since this tracer began.
    has_read: bool,
}

/// Programs that see the same events: a program and its backup, or one program.
struct Group {
    name: &'static str,
    counters: Vec<Counter>,
}

struct Counter {
    fdinfo: File,
    /// Kept open: the counter is shown for open programs.
    _program: OwnedFd,
    /// Value at the last read.
    last: u64,
}

impl Skipped {
    /// The counters of those programs among the loaded ones.
    ///
    /// # Errors
    /// When /proc does not show this process's descriptors.
    pub fn of(objects: &KernelObjects) -> io::Result<Self> {
        let mut groups = Vec::new();
        for &name in COUNTED {
            let programs: Vec<&Program> = objects
                .programs
                .iter()
                .filter(|program| program.base == name)
                .collect();
            let counters = programs.iter().map(|program| Counter::open(&program.fd));
            let counters = counters.collect::<io::Result<Vec<_>>>()?;
            if programs.iter().any(|program| program.is_backup) {
                groups.push(Group { name, counters });
            } else {
                let alone = |counter| Group {
                    name,
                    counters: vec![counter],
                };
                groups.extend(counters.into_iter().map(alone));
            }
        }
        Ok(Self {
            groups,
            has_read: false,
        })
    }

    /// Reads the counters. Returns how many events no program reported since the last read, and the
    /// total so far. `reported` is the total that an earlier tracer has reported; the first read
    /// counts from there. Both are 0 where the kernel does not count.
    pub fn read(&mut self, reported: u64) -> (u64, u64) {
        let new = |group: &mut Group| {
            let new = lost(group.counters.iter_mut().map(Counter::read_new));
            if new > 0 {
                log::debug!("{new} runs of {} were skipped", group.name);
            }
            new
        };
        let new = self.groups.iter_mut().map(new).sum();
        // Runs that the programs of a group skipped at different times add up here, so the total is
        // for a first read only.
        let all = |group: &Group| lost(group.counters.iter().map(|counter| counter.last));
        let total: u64 = self.groups.iter().map(all).sum();
        match std::mem::replace(&mut self.has_read, true) {
            true => (new, total),
            false => (total.saturating_sub(reported), total),
        }
    }
}

/// How many events may be lost, from the number of runs that each program of a group skipped: an
/// event is lost only if both skip it.
fn lost(skipped: impl Iterator<Item = u64>) -> u64 {
    let mut skipped: Vec<u64> = skipped.collect();
    skipped.sort_unstable_by(|a, b| b.cmp(a));
    skipped.get(1).or(skipped.first()).copied().unwrap_or(0)
}

impl Counter {
    fn open(program: &OwnedFd) -> io::Result<Self> {
        let program = program.try_clone()?;
        let path = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
        let mut counter = Self {
            fdinfo: File::open(path)?,
            _program: program,
            last: 0,
        };
        counter.read_new();
        Ok(counter)
    }

    /// Number of skipped runs since the last read.
    fn read_new(&mut self) -> u64 {
        let mut text = [0; 1024];
        let len = self.fdinfo.read_at(&mut text, 0).unwrap_or(0);
        let total = misses(&text[..len]).unwrap_or(self.last);
        let new = total.saturating_sub(self.last);
        self.last = total;
        new
    }
}

/// The counter in the text of /proc/PID/fdinfo/FD.
fn misses(fdinfo: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(fdinfo).ok()?;
    let mut lines = text.lines();
    let count = lines.find_map(|line| line.strip_prefix("recursion_misses:"))?;
    count.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{lost, misses};

    #[test]
    fn an_event_is_lost_when_both_programs_skip_it() {
        assert_eq!(lost([3].into_iter()), 3);
        assert_eq!(lost([3, 0].into_iter()), 0);
        assert_eq!(lost([0, 2, 5].into_iter()), 2);
        assert_eq!(lost([].into_iter()), 0);
    }

    #[test]
    fn fdinfo_has_the_counter() {
        let text = "prog_type:\t26\nrun_cnt:\t0\nrecursion_misses:\t17\nverified_insns:\t9\n";
        assert_eq!(misses(text.as_bytes()), Some(17));
        assert_eq!(misses(b"prog_type:\t26\n"), None);
    }
}
