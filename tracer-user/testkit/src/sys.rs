//! The few system calls that the standard library does not wrap.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

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
