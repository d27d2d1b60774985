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
}

impl Hooked {
    /// Its name without the kind of program.
    pub fn base(&self) -> &str {
        let prefix = self.hook.prefix();
        self.name.strip_prefix(prefix).unwrap_or(&self.name)
    }
}

/// All programs of a backend, in the order in which they are attached.
pub fn of(backend: Backend, btf: &Btf<'_>) -> Result<Vec<Hooked>, String> {
    let mut hooks = Vec::new();
    for attach in backend.tables().iter().copied().flatten() {
        if attach.fits(btf) {
            let target = attach.target(btf)?;
            let kinds = attach.moment.hooks(backend).iter();
            hooks.extend(kinds.map(|hook| Hooked {
                name: attach.name(*hook),
                hook: *hook,
                target,
            }));
        }
    }
    Ok(hooks)
}

impl Backend {
    /// What it attaches, in this order.
    const fn tables(self) -> &'static [&'static [Attach]] {
        match self {
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
    const fn hooks(self, backend: Backend) -> &'static [Hook] {
        match (self, backend) {
            (Self::Tracepoint, _) => &[Hook::Tracepoint],
            (Self::Entry, Backend::Kprobe) => &[Hook::Kprobe],
            (Self::Return | Self::Call, Backend::Kprobe) => &[Hook::Kprobe, Hook::Kretprobe],
            (Self::Entry, _) => &[Hook::Fentry],
            (Self::Return, _) => &[Hook::Fexit],
            (Self::Call, _) => &[Hook::Fentry, Hook::Fexit],
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
}

impl Attach {
    fn name(&self, hook: Hook) -> String {
        format!("{}{}", hook.prefix(), self.program)
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
    }
}

const fn tracepoint(program: &'static str, to: &'static [&'static str]) -> Attach {
    at(Moment::Tracepoint, program, to)
}

const COMMON: &[Attach] = &[
    tracepoint("process_free", &["sched_process_free"]),
    tracepoint("process_exit", &["sched_process_exit"]),
    tracepoint("process_fork", &["sched_process_fork"]),
    tracepoint("process_exit_again", &["sched_process_exit"]),
    tracepoint("process_exec_again", &["sched_process_exec"]),
    tracepoint("process_fork_again", &["sched_process_fork"]),
    tracepoint("process_exec", &["sched_process_exec"]),
    tracepoint("signal_generate", &["signal_generate"]),
    tracepoint("signal_deliver", &["signal_deliver"]),
    tracepoint("inet_sock_set_state", &["inet_sock_set_state"]),
];

const FUNCTIONS: &[Attach] = &[
    at(Moment::Entry, "pipe_free", &["free_pipe_info"]),
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
    at(
        Moment::Entry,
        "files_sent",
        &["unix_prepare_fpl", "scm_fp_dup"],
    ),
    at(Moment::Entry, "files_received", &["scm_detach_fds"]),
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

const KPROBE: &[Attach] = &[tracepoint("thread_exit", &["sched_process_exit"])];

const SYSCALL: &[Attach] = &[
    tracepoint("process_exit_files", &["sched_process_exit"]),
    tracepoint("sys_exit", &["sys_exit"]),
    tracepoint("sys_enter", &["sys_enter"]),
];

pub const ITERATORS: &[(&str, &str)] = &[
    ("task_file", "task_file"),
    ("task_hidden", "task_file"),
    ("task_socket", "task_file"),
    ("task", "task"),
];
