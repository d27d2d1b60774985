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
//!
//! One tracer at a time uses them: it holds a lock (flock(2)) on ROOT itself, which the kernel gives up
//! for a tracer that is killed. A tracer that takes over, of whatever version, takes the lock first.

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

use super::{hooks::Hooked, load::Backend};

/// Tables that a later load can go on with.
pub const TABLES: &[&str] = &[
    "CALLS",
    "CONNS",
    "ACTIVE_LOAD",
    "HANDOVERS",
    "CARRY_OVER",
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
    /// Another tracer uses them.
    #[error("{path} is in use by {holder}: stop that daemon first, or set tracing.pins to another directory", holder = holder.map_or_else(|| "another lastbyte".to_owned(), |pid| format!("pid {pid}")))]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Process id of the tracer, if the kernel names it.
        holder: Option<u32>,
    },
}

/// A place for pins.
#[derive(Clone, Debug)]
pub struct Root {
    path: PathBuf,
    tables: PathBuf,
    _lock: Arc<Lock>,
}

/// Held for as long as the pins are used.
#[derive(Debug)]
struct Lock(#[expect(dead_code, reason = "closing it gives the lock up")] File);

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
        let lock = Lock::take(path)?;
        let tables = path.join(format!("tables-{TABLES_VERSION}-{ring_bytes}"));
        Ok(Self {
            path: path.to_owned(),
            tables,
            _lock: Arc::new(lock),
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

impl Lock {
    fn take(path: &Path) -> Result<Self, PinError> {
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

/// Who holds the lock on a file, by /proc/locks.
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

/// Removes everything that any tracer has pinned there.
///
/// # Errors
/// `PinError::InUse` while one uses it, `PinError::Io`.
pub fn remove_all(root: &Path) -> Result<usize, PinError> {
    if !root.exists() {
        return Ok(0);
    }
    let _lock = Lock::take(root)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_for_one_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let first = Lock::take(root.path()).unwrap();
        match Lock::take(root.path()) {
            // On some file systems (overlayfs) the kernel names another inode than stat(2) does.
            Err(PinError::InUse { holder, .. }) => {
                assert!(holder.is_none_or(|pid| pid == std::process::id()));
            }
            other => panic!("{other:?}"),
        }
        assert!(remove_all(root.path()).is_err());
        drop(first);
        remove_all(root.path()).unwrap();
        assert!(!root.path().exists());
        // There is nothing to remove any more.
        remove_all(root.path()).unwrap();
    }
}
