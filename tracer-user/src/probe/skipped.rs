//! Runs of programs that the kernel skipped, since the program was running on that CPU already and had
//! been preempted: `recursion_misses` (`bpf_prog_show_fdinfo`, kernel/bpf/syscall.c; since 5.12).

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::FileExt,
    },
};

use aya::{Ebpf, programs::ProgramFd};

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
}

struct Counter {
    fdinfo: File,
    /// The kernel tells of programs that are open.
    _program: ProgramFd,
    told: u64,
}

impl Skipped {
    /// Finds them among the loaded programs.
    ///
    /// # Errors
    /// When /proc does not tell of our own descriptors.
    pub fn of(ebpf: &Ebpf) -> io::Result<Self> {
        let counter = |name: &&str| {
            let fd = ebpf.program(name)?.fd().ok()?.try_clone().ok()?;
            Some(Counter::open(fd))
        };
        let alone = ALONE.iter().map(std::slice::from_ref);
        let groups = alone.chain(TWINS.iter().map(|twins| &twins[..]));
        let groups = groups.map(|names| names.iter().filter_map(counter).collect());
        Ok(Self {
            groups: groups.collect::<io::Result<_>>()?,
        })
    }

    /// How many events no program told since the last call; 0 where the kernel does not count them.
    pub fn new_ones(&mut self) -> u64 {
        let lost = |group: &mut Vec<Counter>| group.iter_mut().map(Counter::new_ones).min();
        self.groups.iter_mut().filter_map(lost).sum()
    }
}

impl Counter {
    fn open(program: ProgramFd) -> io::Result<Self> {
        let path = format!("/proc/self/fdinfo/{}", program.as_fd().as_raw_fd());
        Ok(Self {
            fdinfo: File::open(path)?,
            _program: program,
            told: 0,
        })
    }

    fn new_ones(&mut self) -> u64 {
        let mut text = [0; 1024];
        let len = self.fdinfo.read_at(&mut text, 0).unwrap_or(0);
        let total = misses(&text[..len]).unwrap_or(self.told);
        let new = total.saturating_sub(self.told);
        self.told = total;
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
