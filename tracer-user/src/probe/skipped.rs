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

use super::side::Side;

/// Programs whose every run tells something that no other does. What the others skip is made up for:
/// counters by the object itself, an end-of-file by the end of the last writer, the news of a death by
/// the death, the signal that ended a server by its status.
const ALONE: &[&str] = &[
    "inet_sock_set_state",
    "pipe_create",
    "pipe_release",
    "unix_pair",
    "unix_release",
    "tty_release",
];

/// Programs that stand in for each other: only what both skip is lost.
const TWINS: &[[&str; 2]] = &[
    ["process_fork", "process_fork_again"],
    ["process_exec", "process_exec_again"],
    ["process_exit", "process_exit_again"],
];

/// Counters of those among them that are loaded.
pub struct Skipped {
    groups: Vec<Vec<Counter>>,
    looked: bool,
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
    pub fn of(side: &Side) -> io::Result<Self> {
        let counters = |names: &[&str]| {
            let programs = names.iter().flat_map(|name| side.programs(name));
            programs.map(Counter::open).collect::<io::Result<Vec<_>>>()
        };
        // Of a function's two programs, each tells something.
        let alone = ALONE
            .iter()
            .flat_map(|name| side.programs(name))
            .map(|program| Counter::open(program).map(|counter| vec![counter]));
        let twins = TWINS.iter().map(|names| counters(names));
        Ok(Self {
            groups: alone.chain(twins).collect::<io::Result<_>>()?,
            looked: false,
        })
    }

    /// How many events no program told since the last look, and a number that grows with them; at the
    /// first look since an earlier tracer got the number `told`. 0 where the kernel does not count.
    pub fn look(&mut self, told: u64) -> (u64, u64) {
        let lost = |group: &mut Vec<Counter>| group.iter_mut().map(Counter::new_ones).min();
        let new = self.groups.iter_mut().filter_map(lost).sum();
        // What each of a pair skipped at other times counts here, so this is for a first look only.
        let all = |group: &Vec<Counter>| group.iter().map(|counter| counter.seen).min();
        let total: u64 = self.groups.iter().filter_map(all).sum();
        match std::mem::replace(&mut self.looked, true) {
            true => (new, total),
            false => (total.saturating_sub(told), total),
        }
    }
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
    use super::misses;

    #[test]
    fn the_counter_is_found() {
        let text = "prog_type:\t26\nrun_cnt:\t0\nrecursion_misses:\t17\nverified_insns:\t9\n";
        assert_eq!(misses(text.as_bytes()), Some(17));
        assert_eq!(misses(b"prog_type:\t26\n"), None);
    }
}
