//! Loads and attaches the programs with the best backend that this kernel allows.

use std::{fs, io, path::PathBuf};

use aya::Btf as AyaBtf;
use tracer_ebpf::EXE_LEN;

use super::{
    backend::Backend,
    btf::{Btf, BtfError},
    host::{BTF, Host, Lockdown},
    kernel_objects::KernelObjects,
    kretprobe::Kretprobes,
    layout::{self, Missing},
    loader::{BackendError, Loaded, Loader},
    pins::{PinError, Root},
};

/// What the user chose.
#[derive(Clone, Debug)]
pub struct Options {
    /// The backend; `None` for the best that works.
    pub backend: Option<Backend>,
    /// Base names or paths of servers' executables, in addition to [`super::SERVERS`].
    pub servers: Vec<String>,
    /// Size of the ring buffer in bytes, a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// How long a leader must be dead before its holders are reported, ns.
    pub grace: u64,
    /// How long a stream must stand still before that is a finding, ns.
    pub stall_after: u64,
    /// Whether to log the programs' own debug messages.
    pub verbose: bool,
    /// A directory on a BPF file system where everything is pinned, to outlive this process.
    pub pins: Option<PathBuf>,
}

impl Options {
    /// The directory for pins. Without it, the next tracer does not see what happens until it runs.
    fn root(&self) -> Result<Option<Root>, LoadError> {
        let Some(path) = self.pins.as_deref() else {
            return Ok(None);
        };
        match Root::open(path, self.ring_bytes) {
            Ok(root) => Ok(Some(root)),
            Err(error @ PinError::InUse { .. }) => Err(LoadError::InUse(error)),
            Err(error) => {
                log::warn!(
                    "cannot pin the programs, so a restart of the daemon will leave a gap: {error}"
                );
                Ok(None)
            }
        }
    }
}

/// Why tracing is not possible on this machine.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not enough privileges.
    #[error("tracing needs root (or CAP_BPF and CAP_PERFMON): run it with sudo")]
    NotPrivileged,
    /// The kernel has no BPF ring buffer yet.
    #[error(
        "kernel {0} is too old: 5.8 is the first with a BPF ring buffer, upgrade to 5.10 or later"
    )]
    OldKernel(String),
    /// The kernel has no type information.
    #[error(
        "{BTF}: {0}; the kernel must be built with CONFIG_DEBUG_INFO_BTF=y, as every distribution's is since 2021"
    )]
    NoBtf(io::Error),
    /// Lockdown forbids it.
    #[error(
        "kernel lockdown is in confidentiality mode, which forbids reading kernel memory: boot with lockdown=integrity to trace"
    )]
    Lockdown,
    /// The type information cannot be parsed.
    #[error("{BTF}: {0}")]
    Btf(#[from] BtfError),
    /// A field that every backend needs is missing.
    #[error("this kernel lacks what every backend needs: {0}")]
    Missing(String),
    /// The name of a server is empty or too long.
    #[error("server `{0}`: the base name of an executable has 1 to 31 bytes")]
    ServerName(String),
    /// aya cannot read the kernel's type information.
    #[error("loading the eBPF object: {0}")]
    Object(aya::BtfError),
    /// Another tracer uses the pins.
    #[error(transparent)]
    InUse(PinError),
    /// No backend works.
    #[error("no backend works on this kernel: {}", reasons(.attempts))]
    NoBackend {
        /// What was tried, in this order.
        attempts: Vec<Attempt>,
    },
}

/// All reasons in one line.
fn reasons(attempts: &[Attempt]) -> String {
    let reason = |attempt: &Attempt| match &attempt.refused {
        Some(error) => format!("{}: {error}", attempt.backend),
        None => format!("{}: ", attempt.backend),
    };
    attempts.iter().map(reason).collect::<Vec<_>>().join("; ")
}

/// The result of trying one backend.
#[derive(Debug)]
pub struct Attempt {
    /// The backend.
    pub backend: Backend,
    /// Why it does not work; `None` when it does.
    pub refused: Option<BackendError>,
}

/// Loaded and attached programs with their maps.
pub struct Probes {
    pub(super) objects: KernelObjects,
    /// Kept for as long as the programs are to run.
    _kretprobes: Option<Kretprobes>,
    /// The backend that is attached.
    pub backend: Backend,
    /// The backends that were tried, the attached one last.
    pub attempts: Vec<Attempt>,
    /// One entry a program: `program -> kernel function or tracepoint`.
    pub attached: Vec<String>,
    /// Optional fields that this kernel does not have.
    pub missing: Vec<Missing>,
    /// Base names of servers' executables.
    pub servers: Vec<String>,
    /// Whether an earlier load observed the time before this one.
    pub past: Past,
}

/// Whether the programs of an earlier tracer observed what happened before this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// They ran until these programs took over. Tables and ring buffer continue.
    Seen,
    /// No programs ran.
    Unseen,
}

impl Probes {
    /// Checks what can be checked beforehand, then loads and attaches the programs.
    ///
    /// # Errors
    /// Says what the machine lacks and what to do about it.
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
        let aya_btf = AyaBtf::from_sys_fs().map_err(LoadError::Object)?;
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
        let loader = Loader {
            verbose: options.verbose,
            ring_bytes: options.ring_bytes,
            config: &config,
            btf: &btf,
            aya_btf: &aya_btf,
            servers: &servers,
            root: options.root()?,
        };
        let mut attempts = Vec::new();
        for backend in wanted {
            match loader.attach(backend) {
                Ok(Loaded {
                    objects,
                    kretprobes,
                    attached,
                    past,
                }) => {
                    attempts.push(Attempt {
                        backend,
                        refused: None,
                    });
                    return Ok(Self {
                        objects,
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
        Err(LoadError::NoBackend { attempts })
    }
}

/// Base names of all servers' executables: the built-in ones, and `more` names or paths.
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
