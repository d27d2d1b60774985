//! Loads and attaches the programs, choosing the best backend that this kernel allows.

use std::{fmt, fs, io, os::fd::AsFd as _, path::PathBuf};

use aya::{
    Btf as AyaBtf, Ebpf, EbpfError, EbpfLoader,
    programs::{BtfTracePoint, FEntry, FExit, Iter, KProbe, ProgramError},
};
use tracer_ebpf::{Config, EXE_LEN, backend};
use zerocopy::IntoBytes;

use super::{
    btf::{Btf, BtfError},
    hooks::{self, Hook, Hooked, ITERATORS},
    host::{BTF, Host, Lockdown},
    kernel_objects::KernelObjects,
    kretprobe::Kretprobes,
    layout::{self, Missing},
    pins::{Load, PinError, Root, TABLES},
    tables::on_duty,
};

pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lastbyte.bpf.o"));

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
    /// How long a stream must stand still before that is a finding, ns.
    pub stall_after: u64,
    /// Whether the programs' own debug messages are wanted.
    pub verbose: bool,
    /// A directory on a BPF file system where everything is pinned, to outlive this process.
    pub pins: Option<PathBuf>,
}

impl Options {
    /// Without it the next tracer does not see what happens until it runs.
    fn root(&self) -> Result<Option<Root>, LoadError> {
        let Some(path) = self.pins.as_deref() else {
            return Ok(None);
        };
        match Root::open(path, self.ring_bytes) {
            Ok(root) => Ok(Some(root)),
            Err(error @ PinError::InUse { .. }) => Err(LoadError::InUse(error)),
            Err(error) => {
                log::warn!(
                    "nothing is pinned, what happens between two daemons will be a gap: {error}"
                );
                Ok(None)
            }
        }
    }
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
    /// Another tracer has what would be gone on with.
    #[error(transparent)]
    InUse(PinError),
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
    pub(super) side: KernelObjects,
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
    /// What an earlier load has left.
    pub past: Past,
}

/// Whether what happened before this tracer was seen by the programs of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// They ran until these took over: tables and ring go on.
    Seen,
    /// No.
    Unseen,
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
        let attempting = Attempting {
            options,
            config: &config,
            btf: &btf,
            aya_btf: &aya_btf,
            servers: &servers,
            root: options.root()?,
        };
        for backend in wanted {
            match attempting.attach(backend) {
                Ok(Attached {
                    side,
                    kretprobes,
                    attached,
                    past,
                }) => {
                    attempts.push(Attempt {
                        backend,
                        refused: None,
                    });
                    return Ok(Self {
                        side,
                        _kretprobes: kretprobes,
                        backend,
                        attempts,
                        attached,
                        missing,
                        servers,
                        past,
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

/// What attempts share.
struct Attempting<'a> {
    options: &'a Options,
    config: &'a Config,
    btf: &'a Btf<'a>,
    aya_btf: &'a AyaBtf,
    servers: &'a [String],
    root: Option<Root>,
}

/// Where a load is pinned, its number, and the pins of it.
type Pinned<'a> = (&'a Root, u64, Load);

/// What one attempt brought.
struct Attached {
    side: KernelObjects,
    kretprobes: Option<Kretprobes>,
    attached: Vec<String>,
    past: Past,
}

impl Attempting<'_> {
    fn attach(&self, backend: Backend) -> Result<Attached, String> {
        let hooks = hooks::of(backend, self.btf, self.config.backups != 0)?;
        let attached = hooks
            .iter()
            .map(|hook| format!("{} -> {}", hook.name, hook.target))
            .collect();
        let pinned = self.root.as_ref().map(|root| {
            let number = self.number(backend);
            (root, number, root.load(backend, number))
        });
        if let Some((root, number, load)) = &pinned
            && root.has_tables()
            && load.is_complete(&hooks)
            && on_duty(root) == Some(*number)
        {
            match KernelObjects::pinned((*root).clone(), load, &hooks) {
                Ok(side) => {
                    root.keep_only(Some(load));
                    return Ok(Attached {
                        side,
                        kretprobes: None,
                        attached,
                        past: Past::Seen,
                    });
                }
                Err(error) => log::warn!("what an earlier daemon pinned is of no use: {error}"),
            }
        }
        let past = match &self.root {
            Some(root) if root.has_tables() && on_duty(root).is_some_and(|it| root.runs(it)) => {
                Past::Seen
            }
            Some(root) => {
                // Tables that nobody has kept up to date name processes that are no more.
                root.keep_only(None);
                Past::Unseen
            }
            None => Past::Unseen,
        };
        let mut ebpf = self.load(backend, &hooks, pinned.as_ref())?;
        let kretprobes = self.run(backend, &mut ebpf, &hooks, pinned.as_ref())?;
        let mut side = KernelObjects::loaded(ebpf, &hooks, self.root.clone());
        if let Some((root, number, load)) = &pinned {
            super::tables::take_duty(&mut side, *number).map_err(|error| error.to_string())?;
            root.keep_only(Some(load));
        }
        Ok(Attached {
            side,
            kretprobes,
            attached,
            past,
        })
    }

    /// What a load is made of, as a number that is not 0.
    fn number(&self, backend: Backend) -> u64 {
        let mut hash = crc32fast::Hasher::new();
        hash.update(OBJECT);
        hash.update(self.config.as_bytes());
        hash.update(self.servers.join("\0").as_bytes());
        hash.update(&backend.number().to_ne_bytes());
        u64::from(hash.finalize()) | 1 << 32
    }

    /// Everything is loaded before anything is attached: a refusal leaves no half-seeing tracer.
    fn load(
        &self,
        backend: Backend,
        hooks: &[Hooked],
        pinned: Option<&Pinned<'_>>,
    ) -> Result<Ebpf, String> {
        let level: u8 = if self.options.verbose {
            log::Level::Debug as u8
        } else {
            0
        };
        let number = pinned.map_or(0, |(_, number, _)| *number);
        let mut loader = EbpfLoader::new();
        loader
            .btf(Some(self.aya_btf))
            .override_global("CONFIG", self.config.as_bytes(), true)
            .override_global("LOAD_ID", &number, true)
            .override_global(aya_log::LEVEL, &level, false)
            .map_max_entries("RECORDS", self.options.ring_bytes);
        if let Some((root, _, load)) = pinned {
            root.make_tables().map_err(|error| error.to_string())?;
            load.make().map_err(|error| error.to_string())?;
            for table in TABLES {
                loader.map_pin_path(table, root.tables().join(table));
            }
        }
        let mut ebpf = loader.load(OBJECT).map_err(|error| object_error(&error))?;
        super::tables::name_servers(&mut ebpf, self.servers).map_err(|error| error.to_string())?;
        for (program, target) in ITERATORS {
            let iter: &mut Iter = program_of(&mut ebpf, program)?;
            iter.load(target, self.aya_btf)
                .map_err(|error| refusal(program, target, &error))?;
            if let Some((.., load)) = pinned {
                iter.pin(load.program(program))
                    .map_err(|error| format!("pinning {program}: {error}"))?;
            }
        }
        for Hooked {
            name, hook, target, ..
        } in hooks
        {
            match hook {
                Hook::Tracepoint => {
                    program_of::<BtfTracePoint>(&mut ebpf, name)?.load(target, self.aya_btf)
                }
                Hook::Fentry => program_of::<FEntry>(&mut ebpf, name)?.load(target, self.aya_btf),
                Hook::Fexit => program_of::<FExit>(&mut ebpf, name)?.load(target, self.aya_btf),
                Hook::Kprobe | Hook::Kretprobe => program_of::<KProbe>(&mut ebpf, name)?.load(),
            }
            .map_err(|error| refusal(name, target, &error))?;
            if let Some((.., load)) = pinned.filter(|_| backend != Backend::Kprobe) {
                let program = ebpf.program_mut(name);
                program
                    .map_or(Ok(()), |program| program.pin(load.program(name)))
                    .map_err(|error| format!("pinning {name}: {error}"))?;
            }
        }
        Ok(ebpf)
    }

    /// Attaches what is loaded, and lets it stay so where it is pinned.
    fn run(
        &self,
        backend: Backend,
        ebpf: &mut Ebpf,
        hooks: &[Hooked],
        pinned: Option<&Pinned<'_>>,
    ) -> Result<Option<Kretprobes>, String> {
        let mut kretprobes = match backend {
            Backend::Kprobe => Some(Kretprobes::open().map_err(|error| error.to_string())?),
            Backend::Fentry | Backend::Syscall => None,
        };
        if let Some(kretprobes) = &mut kretprobes {
            // First: a kprobe keeps arguments for a kretprobe that is there.
            for Hooked { name, target, .. } in hooks.iter().filter(|it| it.hook == Hook::Kretprobe)
            {
                let fd = program_of::<KProbe>(ebpf, name)?.fd();
                let fd = fd.map_err(|error| refusal(name, target, &error))?;
                kretprobes
                    .attach(fd.as_fd(), target)
                    .map_err(|error| format!("{name} on {target}: {error}"))?;
            }
        }
        /// Attaches a program; its link is pinned, or the program's own.
        macro_rules! attach {
            ($kind:ty, $name:expr, $refused:expr) => {{
                let program = program_of::<$kind>(ebpf, $name)?;
                let link = program.attach().map_err($refused)?;
                if let Some((.., load)) = pinned {
                    let link = program.take_link(link).map_err($refused)?;
                    load.keep($name, link.into())
                        .map_err(|error| error.to_string())?;
                }
            }};
        }
        for Hooked {
            name, hook, target, ..
        } in hooks
        {
            let refused = |error: ProgramError| refusal(name, target, &error);
            match hook {
                Hook::Tracepoint => attach!(BtfTracePoint, name, refused),
                Hook::Fentry => attach!(FEntry, name, refused),
                Hook::Fexit => attach!(FExit, name, refused),
                Hook::Kprobe => {
                    let program = program_of::<KProbe>(ebpf, name)?;
                    program.attach(target, 0).map(drop).map_err(refused)?;
                }
                Hook::Kretprobe => {}
            }
        }
        Ok(kretprobes)
    }
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
