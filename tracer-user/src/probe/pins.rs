//! What outlives the tracer: tables, programs and their links, pinned in a BPF file system, so that the
//! next tracer goes on where this one stopped.
//!
//! ```text
//! ROOT/tables-VERSION-RING/NAME     tables, shared by every load that understands them
//! ROOT/BACKEND-LOAD/program-NAME    programs of one load
//! ROOT/BACKEND-LOAD/link-NAME       what keeps them attached
//! ```
//!
//! A load is named by what it was made of: the object, the kernel's layout, the servers' names.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use aya::{
    maps::{Map, MapData, MapError},
    programs::links::FdLink,
};
use rustix::fs::statfs;
use tracer_ebpf::TABLES_VERSION;

use super::{hooks::Hooked, load::Backend};

/// Tables that a later load can go on with.
pub const TABLES: &[&str] = &[
    "CALLS",
    "CONNS",
    "DUTY",
    "HANDOVERS",
    "LEGACY",
    "LOST",
    "RECORDS",
    "SCAN_ALL",
    "SERVERS",
    "SESSIONS",
    "STREAM_TABLE",
    "TASKS",
];

/// `BPF_FS_MAGIC` of include/uapi/linux/magic.h.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// Why nothing can be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// Some other file system, or none.
    #[error("{0} is on no BPF file system: mount -t bpf bpf /sys/fs/bpf")]
    NoBpffs(PathBuf),
    /// A directory.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// The kernel refuses.
    #[error("pinning {0}: {1}")]
    Pin(PathBuf, String),
}

/// A place for pins.
#[derive(Clone, Debug)]
pub struct Root {
    path: PathBuf,
    tables: PathBuf,
}

/// The pins of one load.
#[derive(Clone, Debug)]
pub struct Load {
    path: PathBuf,
}

impl Root {
    /// Makes the directory. Only its owner gets in: whoever can write to the tables can make the
    /// tracer say anything.
    pub fn open(path: &Path, ring_bytes: u32) -> Result<Self, PinError> {
        make(path)?;
        let kind = statfs(path).map_err(|error| PinError::Io(path.to_owned(), error.into()))?;
        if kind.f_type != BPF_FS_MAGIC {
            // Made just now in vain, or it belongs to somebody.
            let _ = fs::remove_dir(path);
            return Err(PinError::NoBpffs(path.to_owned()));
        }
        let tables = path.join(format!("tables-{TABLES_VERSION}-{ring_bytes}"));
        Ok(Self {
            path: path.to_owned(),
            tables,
        })
    }

    /// Where the tables are, or will be.
    pub fn tables(&self) -> &Path {
        &self.tables
    }

    /// Whether there are tables that a load can go on with.
    pub fn has_tables(&self) -> bool {
        TABLES.iter().all(|name| self.tables.join(name).exists())
    }

    /// Makes room for tables; what an attempt that failed has left there goes.
    pub fn make_tables(&self) -> Result<(), PinError> {
        if !self.has_tables() {
            remove(&self.tables);
        }
        make(&self.tables)
    }

    /// The pins of a load.
    pub fn load(&self, backend: Backend, number: u64) -> Load {
        Load {
            path: self.path.join(format!("{backend}-{number:08x}")),
        }
    }

    /// Whether the programs of the load with this number are attached whatever tracer there is.
    pub fn runs(&self, number: u64) -> bool {
        let load = |backend| self.load(backend, number).path.exists();
        // Links of kprobes die with their tracer.
        load(Backend::Fentry) || load(Backend::Syscall)
    }

    /// Removes what belongs neither to the load nor to its tables: what was attached by it is not any
    /// more.
    pub fn keep_only(&self, load: Option<&Load>) {
        for path in entries(&self.path) {
            let kept = load.is_some_and(|load| path == load.path || path == self.tables);
            if !kept {
                remove(&path);
            }
        }
    }
}

/// Removes everything that any tracer has pinned there.
pub fn remove_all(root: &Path) -> Result<(), PinError> {
    for path in entries(root) {
        remove(&path);
    }
    match fs::remove_dir(root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PinError::Io(root.to_owned(), error))
        }
        _ => Ok(()),
    }
}

impl Load {
    /// Makes room for it.
    pub fn make(&self) -> Result<(), PinError> {
        remove(&self.path);
        make(&self.path)
    }

    /// Whether all of it is there: one that was interrupted as it attached is of no use.
    pub fn is_complete(&self, hooks: &[Hooked]) -> bool {
        hooks
            .iter()
            .all(|hook| self.program(&hook.name).exists() && self.link(&hook.name).exists())
    }

    /// Where a program is pinned.
    pub fn program(&self, name: &str) -> PathBuf {
        self.path.join(format!("program-{name}"))
    }

    fn link(&self, name: &str) -> PathBuf {
        self.path.join(format!("link-{name}"))
    }

    /// Lets a program stay attached.
    pub fn keep(&self, name: &str, link: FdLink) -> Result<(), PinError> {
        let path = self.link(name);
        link.pin(&path)
            .map(drop)
            .map_err(|error| PinError::Pin(path, error.to_string()))
    }
}

/// A pinned table.
pub fn table(root: &Root, name: &str) -> Result<Map, MapError> {
    Map::from_map_data(MapData::from_pin(root.tables.join(name))?)
}

fn make(path: &Path) -> Result<(), PinError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder
        .create(path)
        .map_err(|error| PinError::Io(path.to_owned(), error))
}

fn entries(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Directories of a BPF file system have no further levels than these.
fn remove(path: &Path) {
    for inner in entries(path) {
        let _ = fs::remove_file(inner);
    }
    if let Err(error) = fs::remove_dir(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("{} stays: {error}", path.display());
    }
}
