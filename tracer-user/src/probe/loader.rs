//! Loads and attaches the programs of one backend, or takes over what an earlier tracer pinned.

use std::{
    error::Error as _,
    os::fd::{AsFd as _, BorrowedFd},
};

use aya::{
    Btf as AyaBtf, Ebpf, EbpfError, EbpfLoader,
    maps::MapError,
    pin::PinError as AyaPinError,
    programs::{BtfTracePoint, FEntry, FExit, Iter, KProbe, ProgramError},
};
use tracer_ebpf::Config;
use zerocopy::IntoBytes;

use super::{
    backend::Backend,
    btf::Btf,
    hooks::{self, Hook, Hooked, ITERATORS, NoFunction},
    kernel_objects::KernelObjects,
    kretprobe::{KretprobeError, Kretprobes},
    load::Past,
    object::{NoProgram, OBJECT, program},
    pins::{Load, PinError, Root, TABLES},
    tables::{activate, active_load, name_servers},
};

/// Why a backend does not work on this machine.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The kernel lacks a function that is to be traced.
    #[error(transparent)]
    NoFunction(#[from] NoFunction),
    /// The object lacks a program.
    #[error(transparent)]
    NoProgram(#[from] NoProgram),
    /// The kernel refuses the object's maps or its type information.
    #[error("{}", chain(.0))]
    Object(#[source] EbpfError),
    /// The kernel refuses to load or to attach a program.
    #[error("{program} on {target}: {}", explain(.error))]
    Refused {
        /// Name of the program.
        program: String,
        /// Kernel function or tracepoint.
        target: &'static str,
        /// What the kernel said.
        error: ProgramError,
    },
    /// A return probe cannot be attached.
    #[error("{program} on {target}: {error}")]
    Kretprobe {
        /// Name of the program.
        program: String,
        /// Kernel function.
        target: &'static str,
        /// The reason.
        error: KretprobeError,
    },
    /// Return probes cannot be used at all.
    #[error(transparent)]
    Kretprobes(KretprobeError),
    /// A program cannot be pinned.
    #[error("pinning {program}: {error}")]
    Pin {
        /// Name of the program.
        program: String,
        /// What the kernel said.
        error: AyaPinError,
    },
    /// The directory for pins cannot be used.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// A table cannot be used.
    #[error(transparent)]
    Table(#[from] MapError),
}

/// Everything that loads of different backends have in common.
pub struct Loader<'a> {
    pub verbose: bool,
    /// Size of the ring buffer in bytes.
    pub ring_bytes: u32,
    pub config: &'a Config,
    pub btf: &'a Btf<'a>,
    pub aya_btf: &'a AyaBtf,
    /// Base names of servers' executables.
    pub servers: &'a [String],
    /// Where to pin the programs; `None` for no pins.
    pub root: Option<Root>,
}

/// A backend that works.
pub struct Loaded {
    pub objects: KernelObjects,
    pub kretprobes: Option<Kretprobes>,
    /// See [`super::Probes::attached`].
    pub attached: Vec<String>,
    pub past: Past,
}

/// The pins of the load that is being made.
struct Pinned<'a> {
    root: &'a Root,
    /// Id of the load.
    id: u64,
    load: Load,
}

impl Loader<'_> {
    /// Attaches a backend: the pinned one if it is the same load, otherwise a new one.
    pub fn attach(&self, backend: Backend) -> Result<Loaded, BackendError> {
        let hooks = hooks::of(backend, self.btf, self.config.backups != 0)?;
        let attached = hooks
            .iter()
            .map(|hook| format!("{} -> {}", hook.name, hook.target))
            .collect();
        let pinned = self.root.as_ref().map(|root| {
            let id = self.load_id(backend);
            Pinned {
                root,
                id,
                load: root.load(backend, id),
            }
        });
        if let Some(Pinned { root, id, load }) = &pinned
            && root.has_tables()
            && load.is_complete(&hooks)
            && active_load(root) == Some(*id)
        {
            match KernelObjects::pinned((*root).clone(), load, &hooks) {
                Ok(objects) => {
                    root.keep_only(Some(load));
                    return Ok(Loaded {
                        objects,
                        kretprobes: None,
                        attached,
                        past: Past::Seen,
                    });
                }
                Err(error) => {
                    log::warn!("cannot reuse the programs of the previous daemon: {error}");
                }
            }
        }
        let past = match &self.root {
            Some(root)
                if root.has_tables() && active_load(root).is_some_and(|it| root.runs(it)) =>
            {
                Past::Seen
            }
            Some(root) => {
                // Without programs to keep them up to date, the tables name processes that have
                // ended.
                root.keep_only(None);
                Past::Unseen
            }
            None => Past::Unseen,
        };
        let mut ebpf = self.load(backend, &hooks, pinned.as_ref())?;
        let kretprobes = attach_all(backend, &mut ebpf, &hooks, pinned.as_ref())?;
        let mut objects = KernelObjects::loaded(ebpf, &hooks, self.root.clone());
        if let Some(Pinned { root, id, load }) = &pinned {
            activate(&mut objects, *id)?;
            root.keep_only(Some(load));
        }
        Ok(Loaded {
            objects,
            kretprobes,
            attached,
            past,
        })
    }

    /// A hash of everything that a load depends on; never 0.
    fn load_id(&self, backend: Backend) -> u64 {
        let mut hash = crc32fast::Hasher::new();
        hash.update(OBJECT);
        hash.update(self.config.as_bytes());
        hash.update(self.servers.join("\0").as_bytes());
        hash.update(&backend.number().to_ne_bytes());
        u64::from(hash.finalize()) | 1 << 32
    }

    /// Loads all programs, and pins them. Nothing is attached before everything is loaded, so that a
    /// refusal leaves no tracer that sees only half.
    fn load(
        &self,
        backend: Backend,
        hooks: &[Hooked],
        pinned: Option<&Pinned<'_>>,
    ) -> Result<Ebpf, BackendError> {
        let level: u8 = if self.verbose {
            log::Level::Debug as u8
        } else {
            0
        };
        let id = pinned.map_or(0, |pinned| pinned.id);
        let mut loader = EbpfLoader::new();
        loader
            .btf(Some(self.aya_btf))
            .override_global("CONFIG", self.config.as_bytes(), true)
            .override_global("LOAD_ID", &id, true)
            .override_global(aya_log::LEVEL, &level, false)
            .map_max_entries("RECORDS", self.ring_bytes);
        if let Some(Pinned { root, load, .. }) = pinned {
            root.make_tables()?;
            load.make()?;
            for table in TABLES {
                loader.map_pin_path(table, root.tables().join(table));
            }
        }
        let mut ebpf = loader.load(OBJECT).map_err(BackendError::Object)?;
        name_servers(&mut ebpf, self.servers)?;
        for (name, target) in ITERATORS {
            let iter: &mut Iter = program(&mut ebpf, name)?;
            iter.load(target, self.aya_btf)
                .map_err(|error| refused(name, target, error))?;
            if let Some(Pinned { load, .. }) = pinned {
                iter.pin(load.program(name))
                    .map_err(|error| BackendError::Pin {
                        program: (*name).to_owned(),
                        error,
                    })?;
            }
        }
        for Hooked {
            name, hook, target, ..
        } in hooks
        {
            match hook {
                Hook::Tracepoint => {
                    program::<BtfTracePoint>(&mut ebpf, name)?.load(target, self.aya_btf)
                }
                Hook::Fentry => program::<FEntry>(&mut ebpf, name)?.load(target, self.aya_btf),
                Hook::Fexit => program::<FExit>(&mut ebpf, name)?.load(target, self.aya_btf),
                Hook::Kprobe | Hook::Kretprobe => program::<KProbe>(&mut ebpf, name)?.load(),
            }
            .map_err(|error| refused(name, target, error))?;
            if let Some(Pinned { load, .. }) = pinned.filter(|_| backend != Backend::Kprobe) {
                let program = ebpf.program_mut(name);
                program
                    .map_or(Ok(()), |program| program.pin(load.program(name)))
                    .map_err(|error| BackendError::Pin {
                        program: name.clone(),
                        error,
                    })?;
            }
        }
        Ok(ebpf)
    }
}

/// Attaches all loaded programs. Where the load is pinned, they stay attached after this process.
fn attach_all(
    backend: Backend,
    ebpf: &mut Ebpf,
    hooks: &[Hooked],
    pinned: Option<&Pinned<'_>>,
) -> Result<Option<Kretprobes>, BackendError> {
    let mut kretprobes = match backend {
        Backend::Kprobe => Some(Kretprobes::open().map_err(BackendError::Kretprobes)?),
        Backend::Fentry | Backend::Syscall => None,
    };
    if let Some(kretprobes) = &mut kretprobes {
        // First, because a kprobe saves arguments for a kretprobe that must be there.
        for Hooked { name, target, .. } in hooks.iter().filter(|it| it.hook == Hook::Kretprobe) {
            let fd = program::<KProbe>(ebpf, name)?.fd();
            let fd = fd.map_err(|error| refused(name, target, error))?;
            attach_kretprobe(kretprobes, fd.as_fd(), name, target)?;
        }
    }
    /// Attaches a program. Its link is pinned, or it lives as long as the program.
    macro_rules! attach {
        ($kind:ty, $name:expr, $refused:expr) => {{
            let program = program::<$kind>(ebpf, $name)?;
            let link = program.attach().map_err($refused)?;
            if let Some(Pinned { load, .. }) = pinned {
                let link = program.take_link(link).map_err($refused)?;
                load.pin_link($name, link.into())?;
            }
        }};
    }
    for Hooked {
        name, hook, target, ..
    } in hooks
    {
        let refused = |error: ProgramError| refused(name, target, error);
        match hook {
            Hook::Tracepoint => attach!(BtfTracePoint, name, refused),
            Hook::Fentry => attach!(FEntry, name, refused),
            Hook::Fexit => attach!(FExit, name, refused),
            Hook::Kprobe => {
                let program = program::<KProbe>(ebpf, name)?;
                program.attach(target, 0).map(drop).map_err(refused)?;
            }
            Hook::Kretprobe => {}
        }
    }
    Ok(kretprobes)
}

fn attach_kretprobe(
    kretprobes: &mut Kretprobes,
    program: BorrowedFd<'_>,
    name: &str,
    target: &'static str,
) -> Result<(), BackendError> {
    let attached = kretprobes.attach(program, target);
    attached.map_err(|error| BackendError::Kretprobe {
        program: name.to_owned(),
        target,
        error,
    })
}

/// The kernel refuses a program. The log gets what the verifier said.
fn refused(program: &str, target: &'static str, error: ProgramError) -> BackendError {
    if let ProgramError::LoadError { verifier_log, .. } = &error {
        log::debug!("{program}: {verifier_log}");
    }
    BackendError::Refused {
        program: program.to_owned(),
        target,
        error,
    }
}

/// What the kernel said, and what it means.
fn explain(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, .. } => {
            let why = match io_error.raw_os_error() {
                Some(libc::EPERM) => " (the kernel does not permit this kind of program)",
                Some(libc::EACCES | libc::EINVAL) => {
                    " (refused by the verifier: run with -v for its log)"
                }
                _ => "",
            };
            format!("{io_error}{why}")
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
            format!("{}: {}{why}", error.call, error.io_error)
        }
        other => other.to_string(),
    }
}

/// An error with all its causes.
fn chain(error: &EbpfError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
