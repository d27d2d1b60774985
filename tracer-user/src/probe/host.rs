//! What the kernel says about this machine: clocks, version, lockdown, privileges.

use std::{
    fs::{self, File},
    io::Read as _,
    os::fd::AsFd as _,
    path::Path,
};

use procfs::process::Process;
use rustix::{
    fs::{Mode, OFlags, openat},
    io::Errno,
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
    time::{ClockId, Timespec, clock_gettime},
};

/// The time of now, ns of `CLOCK_BOOTTIME`: the clock of all records.
#[must_use]
pub fn boottime() -> u64 {
    nanos(clock_gettime(ClockId::Boottime))
}

fn nanos(time: Timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Kernel lockdown (kernel_lockdown(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockdown {
    /// Not known: securityfs is not mounted, and we may not mount it.
    Unknown,
    /// Off, or not built in.
    None,
    /// Integrity: tracing works.
    Integrity,
    /// Confidentiality: programs may not read kernel memory, nothing here works.
    Confidentiality,
}

impl Lockdown {
    fn read() -> Self {
        let of_mount = |file| fs::read_to_string(Path::new(SECURITYFS).join(file));
        let text = match of_mount("lockdown") {
            Ok(text) => text,
            // Every kernel with security modules has this file.
            Err(_) if of_mount("lsm").is_ok() => return Self::None,
            Err(_) => match unmounted("lockdown") {
                Ok(text) => text,
                Err(Errno::NOENT | Errno::NODEV) => return Self::None,
                Err(_) => return Self::Unknown,
            },
        };
        Self::parse(&text)
    }

    /// `none [integrity] confidentiality`
    fn parse(text: &str) -> Self {
        let words = [
            ("[none]", Self::None),
            ("[integrity]", Self::Integrity),
            ("[confidentiality]", Self::Confidentiality),
        ];
        let found = words.into_iter().find(|(word, _)| text.contains(word));
        found.map_or(Self::Unknown, |(_, mode)| mode)
    }
}

const SECURITYFS: &str = "/sys/kernel/security";

/// Text of a file of securityfs where that is not mounted: from a private mount.
fn unmounted(file: &str) -> Result<String, Errno> {
    let context = fsopen("securityfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let mount = fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY,
    )?;
    let file = openat(mount, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = String::new();
    match File::from(file).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
    }
}

/// This machine.
#[derive(Clone, Debug)]
pub struct Host {
    /// Host name.
    pub name: String,
    /// Kernel release, as `uname -r`.
    pub kernel: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// Wall clock minus `CLOCK_BOOTTIME`, ns.
    pub wall_offset: u64,
    /// Lockdown mode.
    pub lockdown: Lockdown,
    /// Bytes of the kernel's BTF; `None` when it has none.
    pub btf: Option<u64>,
    /// Effective capabilities, one bit each (capabilities(7)).
    pub capabilities: u64,
}

/// The kernel's type information.
pub const BTF: &str = "/sys/kernel/btf/vmlinux";
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;
/// Capabilities that tracing needs: name, number, purpose.
pub const NEEDED: &[(&str, u32, &str)] = &[
    ("CAP_BPF", CAP_BPF, "load programs and maps"),
    ("CAP_PERFMON", CAP_PERFMON, "attach tracing programs"),
    (
        "CAP_SYS_PTRACE",
        CAP_SYS_PTRACE,
        "read /proc of processes that began before the tracer",
    ),
];

impl Host {
    /// Asks the kernel.
    #[must_use]
    pub fn read() -> Self {
        let uname = rustix::system::uname();
        Self {
            name: uname.nodename().to_string_lossy().into_owned(),
            kernel: uname.release().to_string_lossy().into_owned(),
            boot: fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            wall_offset: nanos(clock_gettime(ClockId::Realtime)).saturating_sub(boottime()),
            lockdown: Lockdown::read(),
            btf: fs::metadata(Path::new(BTF)).ok().map(|meta| meta.len()),
            capabilities: Process::myself()
                .and_then(|me| me.status())
                .map_or(0, |status| status.capeff),
        }
    }

    /// Whether this process has a capability. CAP_SYS_ADMIN includes those that were split off it in
    /// 5.8.
    #[must_use]
    pub const fn has(&self, capability: u32) -> bool {
        let split = capability == CAP_BPF || capability == CAP_PERFMON;
        self.capabilities >> capability & 1 == 1
            || split && self.capabilities >> CAP_SYS_ADMIN & 1 == 1
    }

    /// Whether programs may be loaded and attached.
    #[must_use]
    pub const fn privileged(&self) -> bool {
        self.has(CAP_BPF) && self.has(CAP_PERFMON)
    }

    /// Version of the kernel, major and minor.
    #[must_use]
    pub fn version(&self) -> (u32, u32) {
        let mut parts = self
            .kernel
            .split(|c: char| !c.is_ascii_digit())
            .map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::Lockdown;

    #[test]
    fn the_lockdown_mode_is_the_one_in_brackets() {
        let modes = [
            ("[none] integrity confidentiality\n", Lockdown::None),
            ("none [integrity] confidentiality\n", Lockdown::Integrity),
            (
                "none integrity [confidentiality]\n",
                Lockdown::Confidentiality,
            ),
            ("", Lockdown::Unknown),
        ];
        for (text, mode) in modes {
            assert_eq!(Lockdown::parse(text), mode, "{text}");
        }
    }
}
