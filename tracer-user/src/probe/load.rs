//! Loads and attaches the programs, choosing the best backend that this kernel allows.

use std::{fmt, fs, io, os::fd::AsFd as _};

use aya::{
    Btf as AyaBtf, Ebpf, EbpfError, EbpfLoader,
    programs::{BtfTracePoint, FEntry, FExit, Iter, KProbe, ProgramError},
};
use tracer_ebpf::{Config, EXE_LEN, backend};
use zerocopy::IntoBytes;

use super::{
    btf::{Btf, BtfError},
    host::{BTF, Host, Lockdown},
    kretprobe::Kretprobes,
    layout::{self, Missing},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lastbyte.bpf.o"));

/// How stream operations are observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    /// fentry and fexit on the pipe functions: exact and cheapest.
    Fentry,
    /// kprobes and kretprobes on the same functions: where the kernel has no fentry.
    Kprobe,
    /// Entry and exit of system calls: where neither is allowed.
    Syscall,
}

impl Backend {
    /// In order of preference.
    pub const ALL: [Self; 3] = [Self::Fentry, Self::Kprobe, Self::Syscall];

    /// Its number in the ABI.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Fentry => backend::FENTRY,
            Self::Kprobe => backend::KPROBE,
            Self::Syscall => backend::SYSCALL,
        }
    }

    /// What it attaches, in this order.
    const fn tables(self) -> &'static [&'static [Attach]] {
        match self {
            Self::Fentry => &[FUNCTIONS, COMMON],
            Self::Kprobe => &[FUNCTIONS, KPROBE, COMMON],
            Self::Syscall => &[SYSCALL, COMMON],
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Syscall => "syscall",
        })
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
#[derive(Clone, Copy)]
enum Hook {
    Tracepoint,
    Fentry,
    Fexit,
    Kprobe,
    Kretprobe,
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
        let kind = match hook {
            Hook::Tracepoint => "",
            Hook::Fentry => "fentry_",
            Hook::Fexit => "fexit_",
            Hook::Kprobe => "kprobe_",
            Hook::Kretprobe => "kretprobe_",
        };
        format!("{kind}{}", self.program)
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

const ITERATORS: &[(&str, &str)] = &[
    ("task_file", "task_file"),
    ("task_hidden", "task_file"),
    ("task_socket", "task_file"),
    ("task", "task"),
];

/// What the user chose.
#[derive(Clone, Debug)]
pub struct Options {
    /// `None` takes the best that works.
    pub backend: Option<Backend>,
    /// Base names or paths of server executables, beside [`super::SERVERS`].
    pub servers: Vec<String>,
    /// Bytes of the ring buffer, a power of two and a multiple of a page.
    pub ring_bytes: u32,
    /// How long a leader must be dead before its holders are told, ns.
    pub grace: u64,
    /// Whether the programs' own debug messages are wanted.
    pub verbose: bool,
}

/// Why tracing is not possible here.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not enough privileges.
    #[error("tracing needs root (or CAP_BPF and CAP_PERFMON): run it with sudo")]
    NotPrivileged,
    /// A kernel before the ring buffer.
    #[error(
        "kernel {0} is too old: 5.8 is the first with a BPF ring buffer, upgrade to 5.10 or later"
    )]
    OldKernel(String),
    /// No type information.
    #[error(
        "{BTF}: {0}; the kernel must be built with CONFIG_DEBUG_INFO_BTF=y, as every distribution's is since 2021"
    )]
    NoBtf(io::Error),
    /// Lockdown.
    #[error(
        "kernel lockdown is in confidentiality mode, which forbids reading kernel memory: boot with lockdown=integrity to trace"
    )]
    Lockdown,
    /// Type information of a form that is not understood.
    #[error("{BTF}: {0}")]
    Btf(#[from] BtfError),
    /// A needed field is missing.
    #[error("this kernel lacks what every backend needs: {0}")]
    Missing(String),
    /// A server's name cannot be one.
    #[error("server `{0}`: the base name of an executable has 1 to 31 bytes")]
    ServerName(String),
    /// The object or its maps.
    #[error("loading the eBPF object: {0}")]
    Object(String),
    /// No backend works.
    #[error("no backend works on this kernel: {reasons}")]
    NoBackend {
        /// What was tried.
        attempts: Vec<Attempt>,
        /// All refusals in a line.
        reasons: String,
    },
}

/// The result of trying one backend.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Which.
    pub backend: Backend,
    /// Why it does not work; `None` when it does, or was not tried since a better one did.
    pub refused: Option<String>,
}

/// Loaded and attached programs with their maps.
pub struct Probes {
    pub(super) ebpf: Ebpf,
    /// Kept for as long as the programs are to run.
    _kretprobes: Option<Kretprobes>,
    /// The backend that is attached.
    pub backend: Backend,
    /// What was tried before it.
    pub attempts: Vec<Attempt>,
    /// `program -> kernel function or tracepoint`.
    pub attached: Vec<String>,
    /// Fields that this kernel does not have.
    pub missing: Vec<Missing>,
    /// Base names of server executables.
    pub servers: Vec<String>,
}

impl Probes {
    /// Checks what can be checked beforehand, loads, attaches.
    ///
    /// # Errors
    /// Says what the machine lacks and what to do.
    pub fn load(options: &Options, host: &Host) -> Result<Self, LoadError> {
        if host.version() < (5, 8) {
            return Err(LoadError::OldKernel(host.kernel.clone()));
        }
        if !host.privileged() {
            return Err(LoadError::NotPrivileged);
        }
        if host.lockdown == Lockdown::Confidentiality {
            return Err(LoadError::Lockdown);
        }
        let servers = server_names(&options.servers)?;
        let bytes = fs::read(BTF).map_err(LoadError::NoBtf)?;
        let btf = Btf::parse(&bytes)?;
        let aya_btf =
            AyaBtf::from_sys_fs().map_err(|error| LoadError::Object(error.to_string()))?;
        let (config, missing) = layout::resolve(&btf)?;
        let fatal: Vec<_> = missing
            .iter()
            .filter(|field| field.cost.is_none())
            .map(|field| format!("{} ({})", field.field, field.reason))
            .collect();
        if !fatal.is_empty() {
            return Err(LoadError::Missing(fatal.join(", ")));
        }

        let wanted = options
            .backend
            .map_or_else(|| Backend::ALL.to_vec(), |one| vec![one]);
        let mut attempts = Vec::new();
        for backend in wanted {
            match attach(backend, options, &config, &btf, &aya_btf, &servers) {
                Ok(Attached {
                    ebpf,
                    kretprobes,
                    attached,
                }) => {
                    attempts.push(Attempt {
                        backend,
                        refused: None,
                    });
                    return Ok(Self {
                        ebpf,
                        _kretprobes: kretprobes,
                        backend,
                        attempts,
                        attached,
                        missing,
                        servers,
                    });
                }
                Err(refused) => attempts.push(Attempt {
                    backend,
                    refused: Some(refused),
                }),
            }
        }
        let reasons: Vec<_> = attempts
            .iter()
            .map(|attempt| {
                format!(
                    "{}: {}",
                    attempt.backend,
                    attempt.refused.as_deref().unwrap_or("")
                )
            })
            .collect();
        Err(LoadError::NoBackend {
            reasons: reasons.join("; "),
            attempts,
        })
    }
}

fn server_names(more: &[String]) -> Result<Vec<String>, LoadError> {
    let mut names: Vec<String> = super::SERVERS
        .iter()
        .map(|name| (*name).to_owned())
        .collect();
    for server in more {
        let name = server.rsplit('/').next().unwrap_or_default();
        if name.is_empty() || name.len() >= EXE_LEN {
            return Err(LoadError::ServerName(server.clone()));
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// What one attempt brought.
struct Attached {
    ebpf: Ebpf,
    kretprobes: Option<Kretprobes>,
    attached: Vec<String>,
}

fn attach(
    backend: Backend,
    options: &Options,
    config: &Config,
    btf: &Btf<'_>,
    aya_btf: &AyaBtf,
    servers: &[String],
) -> Result<Attached, String> {
    let mut hooks = Vec::new();
    for attach in backend.tables().iter().copied().flatten() {
        if attach.fits(btf) {
            let target = attach.target(btf)?;
            let kinds = attach.moment.hooks(backend).iter();
            hooks.extend(kinds.map(|hook| (attach.name(*hook), *hook, target)));
        }
    }
    let mut kretprobes = match backend {
        Backend::Kprobe => Some(Kretprobes::open().map_err(|error| error.to_string())?),
        Backend::Fentry | Backend::Syscall => None,
    };

    let level: u8 = if options.verbose {
        log::Level::Debug as u8
    } else {
        0
    };
    let mut ebpf = EbpfLoader::new()
        .btf(Some(aya_btf))
        .override_global("CONFIG", config.as_bytes(), true)
        .override_global(aya_log::LEVEL, &level, false)
        .map_max_entries("RECORDS", options.ring_bytes)
        .load(OBJECT)
        .map_err(|error| object_error(&error))?;
    super::tables::name_servers(&mut ebpf, servers).map_err(|error| error.to_string())?;

    for (program, target) in ITERATORS {
        let iter: &mut Iter = program_of(&mut ebpf, program)?;
        iter.load(target, aya_btf)
            .map_err(|error| refusal(program, target, &error))?;
    }
    // Everything is loaded before anything is attached: a refusal leaves no half-seeing tracer.
    for (program, hook, target) in &hooks {
        match hook {
            Hook::Tracepoint => {
                program_of::<BtfTracePoint>(&mut ebpf, program)?.load(target, aya_btf)
            }
            Hook::Fentry => program_of::<FEntry>(&mut ebpf, program)?.load(target, aya_btf),
            Hook::Fexit => program_of::<FExit>(&mut ebpf, program)?.load(target, aya_btf),
            Hook::Kprobe | Hook::Kretprobe => program_of::<KProbe>(&mut ebpf, program)?.load(),
        }
        .map_err(|error| refusal(program, target, &error))?;
    }
    if let Some(kretprobes) = &mut kretprobes {
        // First: a kprobe keeps arguments for a kretprobe that is there.
        for (program, hook, target) in &hooks {
            if matches!(hook, Hook::Kretprobe) {
                let fd = program_of::<KProbe>(&mut ebpf, program)?.fd();
                let fd = fd.map_err(|error| refusal(program, target, &error))?;
                kretprobes
                    .attach(fd.as_fd(), target)
                    .map_err(|error| format!("{program} on {target}: {error}"))?;
            }
        }
    }
    for (program, hook, target) in &hooks {
        match hook {
            Hook::Tracepoint => program_of::<BtfTracePoint>(&mut ebpf, program)?
                .attach()
                .map(drop),
            Hook::Fentry => program_of::<FEntry>(&mut ebpf, program)?.attach().map(drop),
            Hook::Fexit => program_of::<FExit>(&mut ebpf, program)?.attach().map(drop),
            Hook::Kprobe => program_of::<KProbe>(&mut ebpf, program)?
                .attach(target, 0)
                .map(drop),
            Hook::Kretprobe => continue,
        }
        .map_err(|error| refusal(program, target, &error))?;
    }
    let attached = hooks
        .iter()
        .map(|(program, _, target)| format!("{program} -> {target}"))
        .collect();
    Ok(Attached {
        ebpf,
        kretprobes,
        attached,
    })
}

pub(super) fn program_of<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, String>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| format!("the object has no program {name}"))?;
    program
        .try_into()
        .map_err(|error: ProgramError| format!("{name}: {error}"))
}

/// One line for a person; what the verifier said goes to the log.
fn refusal(program: &str, target: &str, error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            log::debug!("{program}: {verifier_log}");
            let why = match io_error.raw_os_error() {
                Some(libc::EPERM) => " (the kernel does not permit this kind of program)",
                Some(libc::EACCES | libc::EINVAL) => {
                    " (refused by the verifier: run with -v for its log)"
                }
                _ => "",
            };
            format!("{program} on {target}: {io_error}{why}")
        }
        ProgramError::SyscallError(error) => {
            let why = match (error.call, error.io_error.raw_os_error()) {
                // Not in kallsyms, several of that name, or on the kernel's blacklist
                // (`create_local_trace_kprobe`, kernel/trace/trace_kprobe.c).
                (
                    "perf_event_open",
                    Some(libc::ENOENT | libc::EADDRNOTAVAIL | libc::EINVAL | libc::EOPNOTSUPP),
                ) => " (the kernel does not let this function be probed)",
                _ => "",
            };
            format!(
                "{program} on {target}: {}: {}{why}",
                error.call, error.io_error
            )
        }
        other => format!("{program} on {target}: {other}"),
    }
}

fn object_error(error: &EbpfError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
