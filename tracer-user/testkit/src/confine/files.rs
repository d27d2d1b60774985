//! The file system that a unit's process sees: its own mounts, all but a few read-only.

use std::{fs, path::Path};

use anyhow::Context as _;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::Unit;

/// What `ProtectHome=yes` empties.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];
/// What `PrivateTmp=yes` replaces.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];
/// What `ProtectSystem=strict` leaves alone; of /sys and /proc other settings see to.
const OF_THE_KERNEL: [&str; 2] = ["/dev", "/proc"];

pub(super) fn restrict(unit: &Unit) -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("mounts of its own: is this root?")?;
    with_flags("/", MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    let mut writable = Vec::new();
    for word in unit.words("ReadWritePaths") {
        let path = word.trim_start_matches('-');
        if Path::new(path).exists() {
            bind(path)?;
            writable.push(path);
        } else {
            anyhow::ensure!(
                word.starts_with('-'),
                "{path}, which the unit writes to, is absent"
            );
        }
    }
    if unit.is_on("PrivateTmp") {
        for path in TEMPORARY {
            empty(path)?;
            writable.push(path);
        }
    }
    let homes = unit
        .is_on("ProtectHome")
        .then_some(HOMES)
        .into_iter()
        .flatten();
    for path in homes.filter(|path| Path::new(path).exists()) {
        empty(path)?;
    }
    if unit.values("ProtectSystem").last() == Some("strict") {
        for (path, flags) in mounts()? {
            let is_in = |folder: &&str| Path::new(&path).starts_with(folder);
            if !writable.iter().any(is_in) && !OF_THE_KERNEL.iter().any(is_in) {
                let flags = flags | MsFlags::MS_RDONLY | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
                with_flags(&path, flags)?;
            }
        }
    }
    if unit.is_on("ProtectKernelTunables") {
        bind("/proc/sys")?;
        with_flags(
            "/proc/sys",
            MsFlags::MS_RDONLY | MsFlags::MS_BIND | MsFlags::MS_REMOUNT,
        )?;
    }
    Ok(())
}

fn bind(path: &str) -> anyhow::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(path), path, None::<&str>, flags, None::<&str>).with_context(|| path.to_owned())
}

fn empty(path: &str) -> anyhow::Result<()> {
    let kind = Some("tmpfs");
    mount(kind, path, kind, MsFlags::empty(), None::<&str>).with_context(|| path.to_owned())
}

fn with_flags(path: &str, flags: MsFlags) -> anyhow::Result<()> {
    let none = None::<&str>;
    mount(none, path, none, flags, none).with_context(|| path.to_owned())
}

/// What is mounted where, with the flags that a remount must repeat.
fn mounts() -> anyhow::Result<Vec<(String, MsFlags)>> {
    let known = [
        ("nosuid", MsFlags::MS_NOSUID),
        ("nodev", MsFlags::MS_NODEV),
        ("noexec", MsFlags::MS_NOEXEC),
        ("noatime", MsFlags::MS_NOATIME),
        ("relatime", MsFlags::MS_RELATIME),
    ];
    let table = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    let mount = |line: &str| {
        let mut fields = line.split(' ').skip(4);
        let (path, options) = (fields.next()?, fields.next()?);
        let flags = known
            .iter()
            .filter(|(name, _)| options.split(',').any(|it| it == *name));
        Some((path.to_owned(), flags.map(|(_, flag)| *flag).collect()))
    };
    Ok(table.lines().filter_map(mount).collect())
}
