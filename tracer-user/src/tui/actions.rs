//! What leaves the UI: text for the clipboard, files, signals.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Asks the terminal to put a text into its clipboard (OSC 52 of xterm's control sequences).
///
/// # Errors
/// Those of `out`.
pub fn copy(out: &mut impl Write, text: &str) -> io::Result<()> {
    write!(out, "\x1b]52;c;{}\x07", base64(text.as_bytes()))?;
    out.flush()
}

/// Writes a new file that only its owner can read: it tells what was executed.
///
/// # Errors
/// When there is such a file already, or none can be made.
pub fn write(name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_dir()
        .context("the current folder")?
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

/// Sends SIGTERM to the process with this pid that started then, ns of `CLOCK_BOOTTIME`.
///
/// # Errors
/// When it has gone, whether another has its pid now or not, or may not be signalled.
pub fn terminate(pid: u32, start: u64) -> anyhow::Result<()> {
    let name = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let name = name.with_context(|| format!("no process can have pid {pid}"))?;
    // Opened before it is looked at: should the pid go to another process in between, then what is
    // looked at is younger than what was told, and what was opened gets nothing.
    let process =
        pidfd_open(name, PidfdFlags::empty()).with_context(|| format!("pid {pid} has gone"))?;
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
    if started(pid)? != start / tick {
        bail!("pid {pid} is another process by now: nothing was sent");
    }
    pidfd_send_signal(process, Signal::TERM).with_context(|| format!("SIGTERM to pid {pid}"))
}

/// When the process with this pid started, in clock ticks since boot (proc_pid_stat(5)).
fn started(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    // The second field is the name, in brackets, and may hold anything.
    let after = stat.rsplit_once(") ").map(|(_, after)| after);
    after
        .and_then(|after| after.split(' ').nth(19)?.parse().ok())
        .with_context(|| format!("{path} has no start time"))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            if at > chunk.len() {
                out.push('=');
            } else {
                let digit = bits >> (18 - 6 * at) & 63;
                out.push(char::from(DIGITS[digit as usize]));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn sleeper() -> (Child, u64) {
        let child = Command::new("sleep").arg("60").spawn().expect("sleep runs");
        let ticks = started(child.id()).unwrap();
        let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
        (child, ticks * tick + tick / 2)
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (text, code) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text.as_bytes()), code);
        }
        let mut out = Vec::new();
        copy(&mut out, "kill 1").unwrap();
        assert_eq!(out, b"\x1b]52;c;a2lsbCAx\x07");
    }

    #[test]
    fn a_process_that_is_still_the_same_is_terminated() {
        let (mut child, start) = sleeper();
        terminate(child.id(), start).unwrap();
        let status = child.wait().unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(signal, Some(15));
    }

    #[test]
    fn another_process_with_the_same_pid_gets_nothing() {
        let (mut child, start) = sleeper();
        let error = terminate(child.id(), start - 1_000_000_000).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
        assert!(child.try_wait().unwrap().is_none(), "it lives");
        child.kill().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let error = terminate(pid, start).unwrap_err();
        assert!(error.to_string().contains("has gone"), "{error}");
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
