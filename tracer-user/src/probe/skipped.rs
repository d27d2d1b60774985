//! Runs of programs that the kernel skipped, since the program was running on that CPU already and had
//! been preempted: `recursion_misses` (`bpf_prog_show_fdinfo`, kernel/bpf/syscall.c; since 5.12).

use std::{
    fs::File,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::FileExt,
    },
};

use super::kernel_objects::{KernelObjects, Program};

/// Attach points whose programs' every run tells something that nothing else does. What the others skip is
/// made up for: counters by the object itself, the news of a death by the death, the signal that ended a
/// server by its status; or only names are missing. System calls are every process's: of one that matters
/// the kernel side sees that its end was skipped.
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

/// The counters of those that are loaded, by what can stand in for one another.
pub struct Skipped {
    groups: Vec<Group>,
    looked: bool,
}

struct Group {
    name: &'static str,
    counters: Vec<Counter>,
}

struct Counter {
    fdinfo: File,
    /// The kernel tells of programs that are open.
    _program: OwnedFd,
    seen: u64,
}

impl Skipped {
    /// Finds them among the programs.
    ///
    /// # Errors
    /// When /proc does not tell of our own descriptors.
    pub fn of(side: &KernelObjects) -> io::Result<Self> {
        let mut groups = Vec::new();
        for &name in COUNTED {
            let programs: Vec<&Program> = side
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
            looked: false,
        })
    }

    /// How many events no program told since the last look, and a number that grows with them; at the
    /// first look since an earlier tracer got the number `told`. 0 where the kernel does not count.
    pub fn look(&mut self, told: u64) -> (u64, u64) {
        let new = |group: &mut Group| {
            let new = lost(group.counters.iter_mut().map(Counter::new_ones));
            if new > 0 {
                log::debug!("{new} runs of {} were skipped", group.name);
            }
            new
        };
        let new = self.groups.iter_mut().map(new).sum();
        // What each of a group skipped at other times counts here, so this is for a first look only.
        let all = |group: &Group| lost(group.counters.iter().map(|counter| counter.seen));
        let total: u64 = self.groups.iter().map(all).sum();
        match std::mem::replace(&mut self.looked, true) {
            true => (new, total),
            false => (total.saturating_sub(told), total),
        }
    }
}

/// How many events may be lost of those that each of a group skipped: two have to skip one.
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
            seen: 0,
        };
        counter.new_ones();
        Ok(counter)
    }

    fn new_ones(&mut self) -> u64 {
        let mut text = [0; 1024];
        let len = self.fdinfo.read_at(&mut text, 0).unwrap_or(0);
        let total = misses(&text[..len]).unwrap_or(self.seen);
        let new = total.saturating_sub(self.seen);
        self.seen = total;
        new
    }
}

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
    fn of_twins_two_must_skip_an_event() {
        assert_eq!(lost([3].into_iter()), 3);
        assert_eq!(lost([3, 0].into_iter()), 0);
        assert_eq!(lost([0, 2, 5].into_iter()), 2);
        assert_eq!(lost([].into_iter()), 0);
    }

    #[test]
    fn the_counter_is_found() {
        let text = "prog_type:\t26\nrun_cnt:\t0\nrecursion_misses:\t17\nverified_insns:\t9\n";
        assert_eq!(misses(text.as_bytes()), Some(17));
        assert_eq!(misses(b"prog_type:\t26\n"), None);
    }
}
