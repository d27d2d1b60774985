//! Pins of tables, programs and their links in a BPF file system. They outlive the tracer, so that
//! the next one continues where this one stopped.
//!
//! ```text
//! ROOT/tables-VERSION-RING/NAME     tables, shared by all loads that understand them
//! ROOT/BACKEND-LOAD/program-NAME    programs of one load
//! ROOT/BACKEND-LOAD/link-NAME       their links, which keep them attached
//! ```
//!
//! LOAD is a hash of everything that a load depends on: the object, the kernel's layout, the names of
//! servers.
//!
//! Only one tracer at a time uses the pins. It holds a lock (flock(2)) on ROOT itself, which the kernel
//! releases when the tracer is killed. A tracer of any version takes the lock before it takes over.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use aya::{
    maps::{Map, MapData, MapError},
    programs::links::FdLink,
};
use rustix::fs::statfs;
use tracer_ebpf::TABLES_VERSION;

use super::{backend::Backend, hooks::Hooked};

/// Tables that a later load can continue to use.
pub const TABLES: &[&str] = &[
    "ACTIVE_LOAD",
    "CALLS",
    "CARRY_OVER",
    "CONNS",
    "HANDOVERS",
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

/// Why pins cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The directory is on another file system.
    #[error("{0} is on no BPF file system: mount -t bpf bpf /sys/fs/bpf")]
    NoBpffs(PathBuf),
    /// A directory cannot be read or made.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// The kernel refuses a pin.
    #[error("pinning {0}: {1}")]
    Pin(PathBuf, String),
    /// Another tracer uses the pins.
    #[error("{path} is in use by {holder}: stop that daemon first, or set tracing.pins to another directory", holder = holder.map_or_else(|| "another lastbyte".to_owned(), |pid| format!("pid {pid}")))]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Pid of that tracer, if the kernel names it.
        holder: Option<u32>,
    },
}

/// The directory with all pins.
#[derive(Clone, Debug)]
pub struct Root {
    path: PathBuf,
    tables: PathBuf,
    _lock: Arc<Lock>,
}

/// The lock on the directory, held for as long as the pins are used.
#[derive(Debug)]
struct Lock(#[expect(dead_code, reason = "closing it releases the lock")] File);

/// The pins of one load.
#[derive(Clone, Debug)]
pub struct Load {
    path: PathBuf,
}

impl Root {
    /// Makes the directory if needed, and locks it. Only its owner has access: a process that can
    /// write to the tables can make the tracer say anything.
    pub fn open(path: &Path, ring_bytes: u32) -> Result<Self, PinError> {
        make(path)?;
        let kind = statfs(path).map_err(|error| PinError::Io(path.to_owned(), error.into()))?;
        if kind.f_type != BPF_FS_MAGIC {
            // Undoes `make`. A directory of somebody else is not empty, and stays.
            let _ = fs::remove_dir(path);
            return Err(PinError::NoBpffs(path.to_owned()));
        }
        let lock = Lock::acquire(path)?;
        let tables = path.join(format!("tables-{TABLES_VERSION}-{ring_bytes}"));
        Ok(Self {
            path: path.to_owned(),
            tables,
            _lock: Arc::new(lock),
        })
    }

    /// Directory of the tables, which may not exist yet.
    pub fn tables(&self) -> &Path {
        &self.tables
    }

    /// Whether all tables are pinned, so that a load can continue to use them.
    pub fn has_tables(&self) -> bool {
        TABLES.iter().all(|name| self.tables.join(name).exists())
    }

    /// Makes the directory of the tables. Removes what a failed attempt left there.
    pub fn make_tables(&self) -> Result<(), PinError> {
        if !self.has_tables() {
            remove(&self.tables);
        }
        make(&self.tables)
    }

    /// The pins of the load with this id.
    pub fn load(&self, backend: Backend, id: u64) -> Load {
        Load {
            path: self.path.join(format!("{backend}-{id:08x}")),
        }
    }

    /// Whether the programs of the load with this id are attached, with or without a tracer.
    pub fn runs(&self, id: u64) -> bool {
        let load = |backend| self.load(backend, id).path.exists();
        // Links of kprobes end with their tracer.
        load(Backend::Fentry) || load(Backend::Syscall)
    }

    /// Removes everything that belongs neither to this load nor to its tables. That detaches the
    /// programs of other loads.
    pub fn keep_only(&self, load: Option<&Load>) {
        for path in entries(&self.path) {
            let kept = load.is_some_and(|load| path == load.path || path == self.tables);
            if !kept {
                remove(&path);
            }
        }
    }
}

impl Lock {
    fn acquire(path: &Path) -> Result<Self, PinError> {
        let failed = |error| PinError::Io(path.to_owned(), error);
        let directory = File::open(path).map_err(failed)?;
        match directory.try_lock() {
            Ok(()) => Ok(Self(directory)),
            Err(TryLockError::WouldBlock) => Err(PinError::InUse {
                path: path.to_owned(),
                holder: holder(&directory),
            }),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

/// Pid of the process that holds the lock on a file, from /proc/locks.
fn holder(file: &File) -> Option<u32> {
    let meta = file.metadata().ok()?;
    let dev = meta.dev();
    let of = |it: &procfs::Lock| {
        (it.devmaj, it.devmin) == (rustix::fs::major(dev), rustix::fs::minor(dev))
            && it.inode == meta.ino()
            && it.lock_type == procfs::LockType::FLock
    };
    let held = procfs::locks().ok()?.into_iter().find(of)?;
    // One in another pid namespace has no pid here.
    held.pid
        .and_then(|pid| u32::try_from(pid).ok())
        .filter(|pid| *pid != 0)
}

/// Removes everything that any tracer has pinned in this directory. Returns the number of removed
/// entries.
///
/// # Errors
/// `PinError::InUse` while one uses it, `PinError::Io`.
pub fn remove_all(root: &Path) -> Result<usize, PinError> {
    if !root.exists() {
        return Ok(0);
    }
    let _lock = Lock::acquire(root)?;
    let entries = entries(root);
    let count = entries.len();
    for path in entries {
        remove(&path);
    }
    match fs::remove_dir(root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PinError::Io(root.to_owned(), error))
        }
        _ => Ok(count),
    }
}

impl Load {
    /// Makes its directory, empty.
    pub fn make(&self) -> Result<(), PinError> {
        remove(&self.path);
        make(&self.path)
    }

    /// Whether every program and every link is pinned. A load that was interrupted cannot be used.
    pub fn is_complete(&self, hooks: &[Hooked]) -> bool {
        hooks
            .iter()
            .all(|hook| self.program(&hook.name).exists() && self.link(&hook.name).exists())
    }

    /// Path of a program's pin.
    pub fn program(&self, name: &str) -> PathBuf {
        self.path.join(format!("program-{name}"))
    }

    fn link(&self, name: &str) -> PathBuf {
        self.path.join(format!("link-{name}"))
    }

    /// Pins a link, so that its program stays attached after this process.
    pub fn pin_link(&self, name: &str, link: FdLink) -> Result<(), PinError> {
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

/// Removes a directory and its entries; no directory of pins has more levels.
fn remove(path: &Path) {
    for inner in entries(path) {
        let _ = fs::remove_file(inner);
    }
    if let Err(error) = fs::remove_dir(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("cannot remove {}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_for_one_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let first = Lock::acquire(root.path()).unwrap();
        match Lock::acquire(root.path()) {
            // On some file systems (overlayfs) /proc/locks shows another inode than stat(2).
            Err(PinError::InUse { holder, .. }) => {
                assert!(holder.is_none_or(|pid| pid == std::process::id()));
            }
            other => panic!("{other:?}"),
        }
        assert!(remove_all(root.path()).is_err());
        drop(first);
        remove_all(root.path()).unwrap();
        assert!(!root.path().exists());
        // Now there is nothing to remove.
        remove_all(root.path()).unwrap();
    }
}
