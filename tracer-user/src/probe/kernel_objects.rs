//! Programs and tables in the kernel, as user space holds them: loaded by this process, or pinned by
//! an earlier one.

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    Ebpf,
    maps::{Map, MapError},
    programs::{BtfTracePoint, FEntry, FExit, Iter, ProgramError},
};

use super::{
    hooks::{Hook, Hooked, ITERATORS},
    object::{self, NoProgram},
    pins::{self, Load, Root},
};

/// The programs and tables of one load.
pub struct KernelObjects {
    /// What this process has loaded.
    ebpf: Option<Ebpf>,
    pinned: Option<Root>,
    /// Iterators that an earlier process pinned.
    iterators: HashMap<&'static str, Iter>,
    /// Programs that are attached.
    pub programs: Vec<Program>,
}

/// A program that is attached.
pub struct Program {
    /// See [`Hooked::base`].
    pub base: &'static str,
    /// See [`Hooked::is_backup`].
    pub is_backup: bool,
    /// A descriptor of it.
    pub fd: OwnedFd,
}

impl Program {
    fn of(hook: &Hooked, fd: OwnedFd) -> Self {
        Self {
            base: hook.base,
            is_backup: hook.is_backup,
            fd,
        }
    }
}

impl KernelObjects {
    /// What this process has loaded. `pinned` is where its tables are pinned, if they are.
    pub fn loaded(ebpf: Ebpf, hooks: &[Hooked], pinned: Option<Root>) -> Self {
        let descriptor = |hook: &Hooked| {
            let program = ebpf.program(&hook.name)?.fd().ok()?;
            let fd = program.as_fd().try_clone_to_owned().ok()?;
            Some(Program::of(hook, fd))
        };
        Self {
            programs: hooks.iter().filter_map(descriptor).collect(),
            ebpf: Some(ebpf),
            pinned,
            iterators: HashMap::new(),
        }
    }

    /// What an earlier process has pinned.
    pub fn pinned(root: Root, load: &Load, hooks: &[Hooked]) -> Result<Self, ProgramError> {
        let mut iterators = HashMap::new();
        for (name, _) in ITERATORS {
            iterators.insert(*name, Iter::from_pin(load.program(name))?);
        }
        let mut programs = Vec::new();
        for hook in hooks {
            let path = load.program(&hook.name);
            let fd = match hook.hook {
                Hook::Tracepoint => BtfTracePoint::from_pin(path)?.fd()?.try_clone()?,
                Hook::Fentry => FEntry::from_pin(path)?.fd()?.try_clone()?,
                Hook::Fexit => FExit::from_pin(path)?.fd()?.try_clone()?,
                // Their links end with their tracer.
                Hook::Kprobe | Hook::Kretprobe => continue,
            };
            let fd = fd.as_fd().try_clone_to_owned();
            programs.push(Program::of(hook, fd.map_err(ProgramError::IOError)?));
        }
        Ok(Self {
            ebpf: None,
            pinned: Some(root),
            iterators,
            programs,
        })
    }

    /// A table. Each can be taken once.
    pub fn take_map(&mut self, name: &str) -> Result<Map, MapError> {
        let map = self.ebpf.as_mut().and_then(|ebpf| ebpf.take_map(name));
        match (map, &self.pinned) {
            (Some(map), _) => Ok(map),
            (None, Some(root)) => pins::table(root, name),
            (None, None) => Err(MapError::InvalidName {
                name: name.to_owned(),
            }),
        }
    }

    /// A program of [`ITERATORS`].
    pub fn iterator(&mut self, name: &'static str) -> Result<&mut Iter, NoProgram> {
        match &mut self.ebpf {
            Some(ebpf) => object::program(ebpf, name),
            None => self
                .iterators
                .get_mut(name)
                .ok_or_else(|| NoProgram::Unknown(name.to_owned())),
        }
    }

    /// What this process has loaded, for the programs' log.
    pub fn ebpf(&mut self) -> Option<&mut Ebpf> {
        self.ebpf.as_mut()
    }
}
