//! A terminal window for a client: what is typed into it, what it shows, and closing it.

use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Read, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;

use anyhow::Context as _;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};

use crate::sys;

/// The window: a pseudo terminal's master.
#[derive(Debug)]
pub struct Window {
    keyboard: File,
    /// Closed to make the [`Screen`] end.
    _open: PipeWriter,
}

/// What the window shows; ends when the window is closed or nothing runs in it any more.
#[derive(Debug)]
pub struct Screen {
    master: File,
    open: PipeReader,
}

/// Opens a window for `command`, which becomes the leader of the terminal's session.
///
/// # Errors
/// When there is no pseudo terminal.
pub fn open(command: &mut Command) -> anyhow::Result<(Window, Screen)> {
    // O_CLOEXEC: a copy in a process that starts at the same time would keep the window open.
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags).context("no pseudo terminal")?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let inside = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(ptsname_r(&master)?)?;
    command
        .stdin(inside.try_clone()?)
        .stdout(inside.try_clone()?)
        .stderr(inside);
    sys::own_terminal(command);
    let keyboard = File::from(master.as_fd().try_clone_to_owned()?);
    let (reader, writer) = io::pipe()?;
    let window = Window {
        keyboard,
        _open: writer,
    };
    let screen = Screen {
        master: File::from(master.as_fd().try_clone_to_owned()?),
        open: reader,
    };
    Ok((window, screen))
}

impl Window {
    /// Presses these keys.
    ///
    /// # Errors
    /// When nothing runs in the window any more.
    pub fn press(&mut self, keys: &str) -> io::Result<()> {
        self.keyboard.write_all(keys.as_bytes())
    }
}

impl Read for Screen {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut either = [
            PollFd::new(self.master.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.open.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut either, PollTimeout::NONE)?;
        match either[1].any() {
            Some(true) => Ok(0),
            _ => self.master.read(buffer),
        }
    }
}
