//! Which program is attached where, with each backend.

use super::{backend::Backend, btf::Btf};

/// The kernel has no function that a program could be attached to. It holds the names that were
/// looked for.
#[derive(Debug, thiserror::Error)]
#[error("the kernel has no function {}", .0.join(" or "))]
pub struct NoFunction(&'static [&'static str]);

/// A program of the object with its attach point.
pub struct Hooked {
    /// Name of the program in the object.
    pub name: String,
    /// Kind of the program.
    pub hook: Hook,
    /// Kernel function or tracepoint.
    pub target: &'static str,
    /// Name without the kind. A program and its backup share it.
    pub base: &'static str,
    /// Whether it is the backup of the program with the same kind and base.
    pub is_backup: bool,
}

/// All programs of a backend, in the order in which they are attached. With `backups` they have
/// backup programs, for kernels that can preempt a program and then skip it for other processes.
pub fn of(backend: Backend, btf: &Btf<'_>, backups: bool) -> Result<Vec<Hooked>, NoFunction> {
    let mut hooks = Vec::new();
    for attach in backend.tables(backups).iter().copied().flatten() {
        if attach.fits(btf) {
            let target = attach.target(btf)?;
            let backups = backups && attach.has_backup;
            let kinds = attach.moment.hooks(backend, backups).iter();
            let mut add = |hook: Hook, is_backup| {
                hooks.push(Hooked {
                    name: attach.name(hook, is_backup),
                    hook,
                    target,
                    base: attach.program,
                    is_backup,
                });
            };
            kinds.clone().for_each(|hook| add(*hook, false));
            if let Some(last) = kinds.last().filter(|hook| backups && hook.has_backup()) {
                add(*last, true);
            }
        }
    }
    Ok(hooks)
}

impl Backend {
    /// What it attaches, in this order.
    const fn tables(self, backups: bool) -> &'static [&'static [Attach]] {
        match self {
            Self::Fentry if backups => &[FUNCTIONS, FENTRY_BACKUPS, COMMON],
            Self::Fentry => &[FUNCTIONS, COMMON],
            Self::Kprobe => &[FUNCTIONS, KPROBE, COMMON],
            Self::Syscall => &[SYSCALL, COMMON],
        }
    }
}

/// The moment when a program, or a pair of programs, runs.
#[derive(Clone, Copy)]
enum Moment {
    /// At a tracepoint.
    Tracepoint,
    /// When a function begins.
    Entry,
    /// When a function returns.
    Return,
    /// When a function begins, and when it returns.
    Call,
}

impl Moment {
    /// The kinds of programs with which a backend sees it.
    const fn hooks(self, backend: Backend, backups: bool) -> &'static [Hook] {
        match (self, backend) {
            (Self::Tracepoint, _) => &[Hook::Tracepoint],
            (Self::Entry, Backend::Kprobe) => &[Hook::Kprobe],
            (Self::Return | Self::Call, Backend::Kprobe) => &[Hook::Kprobe, Hook::Kretprobe],
            (Self::Entry, _) => &[Hook::Fentry],
            (Self::Return, _) if !backups => &[Hook::Fexit],
            (Self::Return | Self::Call, _) => &[Hook::Fentry, Hook::Fexit],
        }
    }
}

/// A kind of program.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// BTF tracepoint.
    Tracepoint,
    /// A function's entry.
    Fentry,
    /// A function's return, with its arguments.
    Fexit,
    /// A function's entry, through a breakpoint.
    Kprobe,
    /// A function's return, without its arguments.
    Kretprobe,
}

impl Hook {
    /// Whether the kernel skips such a program when another process was preempted in it. Kprobes are
    /// not preempted.
    const fn has_backup(self) -> bool {
        matches!(self, Self::Tracepoint | Self::Fentry | Self::Fexit)
    }

    /// Beginning of the names of such programs, if they belong to a function.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Tracepoint => "",
            Self::Fentry => "fentry_",
            Self::Fexit => "fexit_",
            Self::Kprobe => "kprobe_",
            Self::Kretprobe => "kretprobe_",
        }
    }
}

/// A program and the kernel functions that it may be attached to, newest kernel first.
struct Attach {
    /// Name in the object; for a function, without the prefix for the kind.
    program: &'static str,
    moment: Moment,
    to: &'static [&'static str],
    /// Attached only where the function has this many parameters; 0 for any number.
    parameters: u32,
    /// Whether its last program has a backup.
    has_backup: bool,
}

impl Attach {
    fn name(&self, hook: Hook, is_backup: bool) -> String {
        let suffix = if is_backup { "_backup" } else { "" };
        format!("{}{}{suffix}", hook.prefix(), self.program)
    }

    /// The attach point that this kernel has.
    fn target(&self, btf: &Btf<'_>) -> Result<&'static str, NoFunction> {
        if matches!(self.moment, Moment::Tracepoint) {
            return Ok(self.to[0]);
        }
        let found = self.to.iter().find(|name| btf.has_function(name));
        found.copied().ok_or(NoFunction(self.to))
    }

    fn fits(&self, btf: &Btf<'_>) -> bool {
        self.parameters == 0 || btf.parameters(self.to[0]) == Some(self.parameters)
    }
}

/// A program with a backup.
const fn at(moment: Moment, program: &'static str, to: &'static [&'static str]) -> Attach {
    Attach {
        program,
        moment,
        to,
        parameters: 0,
        has_backup: true,
    }
}

/// A program without a backup: a skipped run is made up for elsewhere, or does no harm.
const fn alone(moment: Moment, program: &'static str, to: &'static [&'static str]) -> Attach {
    Attach {
        has_backup: false,
        ..at(moment, program, to)
    }
}

/// With every backend.
const COMMON: &[Attach] = &[
    alone(Moment::Tracepoint, "process_free", &["sched_process_free"]),
    at(Moment::Tracepoint, "process_exit", &["sched_process_exit"]),
    at(Moment::Tracepoint, "process_fork", &["sched_process_fork"]),
    at(Moment::Tracepoint, "process_exec", &["sched_process_exec"]),
    alone(Moment::Tracepoint, "signal_generate", &["signal_generate"]),
    alone(Moment::Tracepoint, "signal_deliver", &["signal_deliver"]),
    at(
        Moment::Tracepoint,
        "inet_sock_set_state",
        &["inet_sock_set_state"],
    ),
];

/// With the backends that see kernel functions.
const FUNCTIONS: &[Attach] = &[
    alone(Moment::Entry, "pipe_free", &["free_pipe_info"]),
    at(Moment::Entry, "pipe_release", &["pipe_release"]),
    at(Moment::Return, "pipe_create", &["alloc_file_clone"]),
    // Split from the FIFO's in 6.15.
    at(
        Moment::Return,
        "pipe_read",
        &["anon_pipe_read", "pipe_read"],
    ),
    at(
        Moment::Call,
        "pipe_write",
        &["anon_pipe_write", "pipe_write"],
    ),
    at(Moment::Entry, "unix_release", &["unix_release_sock"]),
    at(Moment::Return, "unix_pair", &["unix_socketpair"]),
    at(Moment::Return, "unix_receive", &["unix_stream_recvmsg"]),
    at(Moment::Call, "unix_send", &["unix_stream_sendmsg"]),
    // Called with the message's list of files. With the garbage collector of 6.10, which stable
    // kernels have got too, the list is no longer copied: 6.12.117 copies nothing.
    alone(
        Moment::Entry,
        "files_sent",
        &["unix_prepare_fpl", "scm_fp_dup"],
    ),
    alone(Moment::Entry, "files_received", &["scm_detach_fds"]),
    at(Moment::Entry, "tty_release", &["tty_release"]),
    at(Moment::Return, "pty_write", &["pty_write"]),
    // (kiocb, iov_iter) since 5.12, (file, buf, count, ppos) before.
    Attach {
        parameters: 2,
        ..at(Moment::Return, "tty_read", &["tty_read"])
    },
    Attach {
        parameters: 4,
        ..at(Moment::Return, "tty_read_old", &["tty_read"])
    },
];

/// With kprobes: counts calls whose return was not seen.
const KPROBE: &[Attach] = &[alone(
    Moment::Tracepoint,
    "thread_exit_count",
    &["sched_process_exit"],
)];

/// With fentry and backups: drops what a thread has noted for its backup programs.
const FENTRY_BACKUPS: &[Attach] = &[alone(
    Moment::Tracepoint,
    "thread_exit_clear",
    &["sched_process_exit"],
)];

/// With the backend that sees system calls.
const SYSCALL: &[Attach] = &[
    at(
        Moment::Tracepoint,
        "process_exit_files",
        &["sched_process_exit"],
    ),
    at(Moment::Tracepoint, "sys_exit", &["sys_exit"]),
    at(Moment::Tracepoint, "sys_enter", &["sys_enter"]),
];

/// Iterator programs, with what the kernel lets each walk over.
pub const ITERATORS: &[(&str, &str)] = &[
    ("task_file", "task_file"),
    ("task_inflight", "task_file"),
    ("task_socket", "task_file"),
    ("task", "task"),
];
