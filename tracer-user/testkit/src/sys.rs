//! The few system calls that the standard library does not wrap.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

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
