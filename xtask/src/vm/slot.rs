//! Folders under `target/vm`, locked, because several runs may share them.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::paths;

/// How many VMs of one name may run at a time.
const SLOTS: u32 = 16;

/// A run's name and folder, its own until dropped.
pub struct Slot {
    pub name: String,
    pub folder: PathBuf,
    _lock: File,
}

impl Slot {
    /// `name`, or when another run has it, `name-2` and so on.
    pub fn take(name: &str) -> Result<Self> {
        for number in 1..=SLOTS {
            let name = match number {
                1 => name.to_owned(),
                _ => format!("{name}-{number}"),
            };
            let folder = paths::vm().join("run").join(&name);
            let path = folder.join("lock");
            let lock = lock_file(&path)?;
            match lock.try_lock() {
                Ok(()) => {
                    return Ok(Self {
                        name,
                        folder,
                        _lock: lock,
                    });
                }
                Err(TryLockError::WouldBlock) => (),
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
        }
        bail!("{SLOTS} VMs called {name} are running: end some of them")
    }
}

/// Waits until no other run is preparing what all share: kernels and the root file system.
/// The file is the lock; drop it to let the next one go on.
pub fn preparing() -> Result<File> {
    let path = paths::vm().join("lock");
    let lock = lock_file(&path)?;
    lock.lock()
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(lock)
}

fn lock_file(path: &Path) -> Result<File> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    File::create(path).with_context(|| format!("cannot create {}", path.display()))
}
