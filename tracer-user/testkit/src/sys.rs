//! The few system calls that the standard library does not wrap.

use std::ffi::{CStr, CString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::stage::Skipped;

/// Sends `signal` to one process.
///
/// # Errors
/// As kill(2): no such process, or no permission.
pub fn kill(pid: u32, signal: i32) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    if pid <= 1 {
        return Err(io::Error::other("refusing to signal pid 0 or 1"));
    }
    // SAFETY: kill(2) takes two integers and touches no memory of ours.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends `signal` to a process group, as a terminal does.
///
/// # Errors
/// As kill(2): no such group, or no permission.
pub fn kill_group(leader: u32, signal: i32) -> io::Result<()> {
    let group = i32::try_from(leader).map_err(io::Error::other)?;
    if group <= 1 {
        return Err(io::Error::other("refusing to signal group 0 or 1"));
    }
    // SAFETY: killpg(2) takes two integers and touches no memory of ours.
    match unsafe { libc::killpg(group, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Bytes that could be read from the pipe behind `path` right now; takes none of them.
///
/// # Errors
/// When the path cannot be opened for reading or is no pipe.
pub fn unread(path: &Path) -> io::Result<u64> {
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, and `bytes` lives until the call returns.
    match unsafe { libc::ioctl(file.as_raw_fd(), libc::FIONREAD, &raw mut bytes) } {
        0 => u64::try_from(bytes).map_err(io::Error::other),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes a fifo.
///
/// # Errors
/// As mkfifo(3): it exists, or its directory does not.
pub fn make_fifo(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: mkfifo reads the string up to its NUL and keeps no pointer to it.
    match unsafe { libc::mkfifo(path.as_ptr(), 0o666) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Mounts the hierarchy of control groups (version 2) on a directory.
///
/// # Errors
/// As mount(2): the kernel has none, or we may not.
pub fn mount_cgroups(on: &Path) -> io::Result<()> {
    mount(on, c"cgroup2", None)
}

/// Mounts a BPF file system on a directory.
///
/// # Errors
/// As mount(2).
pub fn mount_bpffs(on: &Path) -> io::Result<()> {
    mount(on, c"bpf", None)
}

/// Mounts a file system in memory that holds so many bytes.
///
/// # Errors
/// As mount(2).
pub fn mount_small(on: &Path, bytes: u64) -> io::Result<()> {
    let size = CString::new(format!("size={bytes}"))?;
    mount(on, c"tmpfs", Some(&size))
}

fn mount(on: &Path, kind: &CStr, data: Option<&CStr>) -> io::Result<()> {
    let on = CString::new(on.as_os_str().as_bytes())?;
    let data = data.map_or(std::ptr::null(), CStr::as_ptr).cast();
    // SAFETY: mount reads the strings up to their NULs and keeps no pointer to them.
    match unsafe { libc::mount(kind.as_ptr(), on.as_ptr(), kind.as_ptr(), 0, data) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Unmounts what is mounted on a directory.
///
/// # Errors
/// As umount(2): nothing is, or it is in use.
pub fn unmount(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: umount reads the string up to its NUL and keeps no pointer to it.
    match unsafe { libc::umount(path.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives up a case where the kernel does not let the test user have an io_uring.
///
/// # Errors
/// [`Skipped`] with the reason.
pub fn needs_io_uring() -> anyhow::Result<()> {
    // A kernel before 6.6 has no such switch.
    let switch = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let state = switch.as_deref().map_or("0", str::trim);
    anyhow::ensure!(
        state == "0",
        Skipped(format!("kernel.io_uring_disabled is {state}"))
    );
    Ok(())
}

/// Makes the process the leader of a session of its own, with its stdin as the controlling terminal.
pub fn own_terminal(command: &mut Command) -> &mut Command {
    let take = || {
        // SAFETY: setsid takes nothing; TIOCSCTTY takes a number and touches no memory of ours.
        let taken = unsafe { libc::setsid() >= 0 && libc::ioctl(0, libc::TIOCSCTTY, 0) == 0 };
        match taken {
            true => Ok(()),
            false => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec the closure makes two async-signal-safe calls and allocates
    // nothing.
    unsafe { command.pre_exec(take) }
}

/// Makes the process end when the thread that starts it does, however that comes about.
pub fn end_with_parent(command: &mut Command) -> &mut Command {
    let ask = || {
        // SAFETY: PR_SET_PDEATHSIG takes a number and touches no memory of ours.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec the closure makes one async-signal-safe call and allocates
    // nothing.
    unsafe { command.pre_exec(ask) }
}
