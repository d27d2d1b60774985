//! Actions outside the UI: copying to the clipboard, writing files, sending signals.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
};

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Copies text to the terminal's clipboard (OSC 52, see xterm's control sequences).
///
/// # Errors
/// If writing to `out` fails.
pub fn copy(out: &mut impl Write, text: &str) -> io::Result<()> {
    write!(out, "\x1b]52;c;{}\x07", BASE64_STANDARD.encode(text))?;
    out.flush()
}

/// Writes a new file in the current directory. Only its owner can read it, as it holds command lines.
///
/// # Errors
/// If the file exists, or cannot be created or written.
pub fn write(name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_dir()
        .context("current directory")?
        .join(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| path.display().to_string())?;
    writeln!(file, "{text}").with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Sends SIGTERM to a process, named by its pid and its start time (ns of `CLOCK_BOOTTIME`).
///
/// # Errors
/// If the process has exited, even if another one has its pid now, or if it may not be signalled.
pub fn terminate(pid: u32, start: u64) -> anyhow::Result<()> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let raw = raw.with_context(|| format!("invalid pid {pid}"))?;
    // Opened before the start time is read: if the pid is reused in between, the start time is that of
    // the new process and does not match, so nothing is sent.
    let process =
        pidfd_open(raw, PidfdFlags::empty()).with_context(|| format!("pid {pid} has exited"))?;
    if start_time(pid)? != start / (1_000_000_000 / procfs::ticks_per_second()) {
        bail!("pid {pid} is now another process; nothing sent");
    }
    pidfd_send_signal(process, Signal::TERM)
        .with_context(|| format!("cannot send SIGTERM to pid {pid}"))
}

/// When a process started, in clock ticks since boot.
fn start_time(pid: u32) -> anyhow::Result<u64> {
    let stat = procfs::process::Process::new(pid.cast_signed()).and_then(|it| it.stat());
    Ok(stat
        .with_context(|| format!("cannot read /proc/{pid}/stat"))?
        .starttime)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn sleeper() -> (Child, u64) {
        let child = Command::new("sleep").arg("60").spawn().expect("sleep runs");
        let tick = 1_000_000_000 / procfs::ticks_per_second();
        let start = start_time(child.id()).unwrap() * tick + tick / 2;
        (child, start)
    }

    #[test]
    fn text_is_copied_with_osc_52() {
        let mut out = Vec::new();
        copy(&mut out, "kill 1").unwrap();
        assert_eq!(out, b"\x1b]52;c;a2lsbCAx\x07");
    }

    #[test]
    fn the_same_process_is_terminated() {
        let (mut child, start) = sleeper();
        terminate(child.id(), start).unwrap();
        let status = child.wait().unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(signal, Some(15));
    }

    #[test]
    fn a_process_with_a_reused_pid_gets_no_signal() {
        let (mut child, start) = sleeper();
        let error = terminate(child.id(), start - 1_000_000_000).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
        assert!(child.try_wait().unwrap().is_none(), "still running");
        child.kill().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let error = terminate(pid, start).unwrap_err();
        assert!(error.to_string().contains("has exited"), "{error}");
    }

    #[test]
    fn no_file_is_overwritten() {
        let name = format!("target-lastbyte-export-{}.json", std::process::id());
        let path = write(&name, "{}").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n");
        assert!(write(&name, "other").is_err());
        std::fs::remove_file(path).unwrap();
    }
}
