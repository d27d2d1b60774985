//! What is attached where, with each backend.

use super::{btf::Btf, load::Backend};

/// A program of the object with its attach point.
pub struct Hooked {
    /// The program's name in the object.
    pub name: String,
    /// What kind it is.
    pub hook: Hook,
    /// Kernel function or tracepoint.
    pub target: &'static str,
    /// Its name without the kind, which a twin has as well.
    pub base: &'static str,
    /// Stands in for the one of the same kind that has the base's name.
    pub is_backup: bool,
}

/// All programs of a backend, in the order in which they are attached; with twins, where a program may be
/// preempted and then skipped for others.
pub fn of(backend: Backend, btf: &Btf<'_>, twins: bool) -> Result<Vec<Hooked>, String> {
    let mut hooks = Vec::new();
    for attach in backend.tables(twins).iter().copied().flatten() {
        if attach.fits(btf) {
            let target = attach.target(btf)?;
            let twins = twins && attach.has_backup;
            let kinds = attach.moment.hooks(backend, twins).iter();
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
            if let Some(last) = kinds.last().filter(|hook| twins && hook.has_backup()) {
                add(*last, true);
            }
        }
    }
    Ok(hooks)
}

impl Backend {
    /// What it attaches, in this order.
    const fn tables(self, twins: bool) -> &'static [&'static [Attach]] {
        match self {
            Self::Fentry if twins => &[FUNCTIONS, TOLD, COMMON],
            Self::Fentry => &[FUNCTIONS, COMMON],
            Self::Kprobe => &[FUNCTIONS, KPROBE, COMMON],
            Self::Syscall => &[SYSCALL, COMMON],
        }
    }
}

/// When a program, or a pair of them, runs.
#[derive(Clone, Copy)]
enum Moment {
    /// At a tracepoint.
    Tracepoint,
    /// As a function begins.
    Entry,
    /// As it returns.
    Return,
    /// Both.
    Call,
}

impl Moment {
    /// How a backend gets there.
    const fn hooks(self, backend: Backend, twins: bool) -> &'static [Hook] {
        match (self, backend) {
            (Self::Tracepoint, _) => &[Hook::Tracepoint],
            (Self::Entry, Backend::Kprobe) => &[Hook::Kprobe],
            (Self::Return | Self::Call, Backend::Kprobe) => &[Hook::Kprobe, Hook::Kretprobe],
            (Self::Entry, _) => &[Hook::Fentry],
            (Self::Return, _) if !twins => &[Hook::Fexit],
            (Self::Return | Self::Call, _) => &[Hook::Fentry, Hook::Fexit],
        }
    }
}

/// A kind of program.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    Tracepoint,
    Fentry,
    Fexit,
    Kprobe,
    Kretprobe,
}

impl Hook {
    /// Whether the kernel skips such a program when another process was preempted in it. Kprobes are not
    /// preempted.
    const fn has_backup(self) -> bool {
        matches!(self, Self::Tracepoint | Self::Fentry | Self::Fexit)
    }

    /// What the names of such programs begin with, if they are of a function.
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
    /// Its name in the object; for a function, the kind of program goes before it.
    program: &'static str,
    moment: Moment,
    to: &'static [&'static str],
    /// Only where the function has this many parameters; 0 for any number.
    parameters: u32,
    /// Its last program has a twin.
    has_backup: bool,
}

impl Attach {
    fn name(&self, hook: Hook, is_backup: bool) -> String {
        let suffix = if is_backup { "_backup" } else { "" };
        format!("{}{}{suffix}", hook.prefix(), self.program)
    }

    /// The attach point that this kernel has.
    fn target(&self, btf: &Btf<'_>) -> Result<&'static str, String> {
        if matches!(self.moment, Moment::Tracepoint) {
            return Ok(self.to[0]);
        }
        let found = self.to.iter().find(|name| btf.has_function(name));
        found
            .copied()
            .ok_or_else(|| format!("the kernel has no function {}", self.to.join(" or ")))
    }

    fn fits(&self, btf: &Btf<'_>) -> bool {
        self.parameters == 0 || btf.parameters(self.to[0]) == Some(self.parameters)
    }
}

const fn at(moment: Moment, program: &'static str, to: &'static [&'static str]) -> Attach {
    Attach {
        program,
        moment,
        to,
        parameters: 0,
        has_backup: true,
    }
}

/// What it skips is made up for, or does no harm.
const fn alone(moment: Moment, program: &'static str, to: &'static [&'static str]) -> Attach {
    Attach {
        has_backup: false,
        ..at(moment, program, to)
    }
}

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
    // Called with the message's list of files. That is not a copy any more where the garbage
    // collector of 6.10 is, which stable kernels have got too: 6.12.117 copies nothing.
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

const KPROBE: &[Attach] = &[alone(
    Moment::Tracepoint,
    "thread_exit_count",
    &["sched_process_exit"],
)];

const TOLD: &[Attach] = &[alone(
    Moment::Tracepoint,
    "thread_exit_clear",
    &["sched_process_exit"],
)];

const SYSCALL: &[Attach] = &[
    at(
        Moment::Tracepoint,
        "process_exit_files",
        &["sched_process_exit"],
    ),
    at(Moment::Tracepoint, "sys_exit", &["sys_exit"]),
    at(Moment::Tracepoint, "sys_enter", &["sys_enter"]),
];

pub const ITERATORS: &[(&str, &str)] = &[
    ("task_file", "task_file"),
    ("task_inflight", "task_file"),
    ("task_socket", "task_file"),
    ("task", "task"),
];
