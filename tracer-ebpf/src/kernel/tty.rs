//! Ttys and ptys.

use tracer_ebpf::OPTIONAL;

use super::{File, constant, field, long, read};

/// Device numbers of Documentation/admin-guide/devices.txt.
const PTMX: u32 = 5 << 20 | 2;
const PTS_MAJORS: core::ops::RangeInclusive<u32> = 136..=143;
/// Most flip buffers that are added up: `TTYB_DEFAULT_MEM_LIMIT` (drivers/tty/tty_buffer.c) is
/// 640 KiB, and a write of up to 2 KiB gets a buffer of its own size.
const BUFFERS: u32 = 512;
/// Inode number of pty 0 (`devpts_pty_new`, fs/devpts/inode.c).
const PTS_INODE: u64 = 3;

/// A `struct tty_struct`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tty(pub u64);

impl Tty {
    /// Whether the fields of ptys are known on this kernel.
    #[inline(always)]
    pub fn is_supported() -> bool {
        constant!(layout.tty_link) != OPTIONAL
    }

    /// The other side of a pty.
    #[inline(always)]
    pub fn link(self) -> Self {
        Self(field!(self.0, tty_link: u64))
    }

    /// Number of open files.
    #[inline(always)]
    pub fn count(self) -> u32 {
        field!(self.0, tty_count: u32)
    }

    /// Bytes that wait to be read from it.
    #[inline(always)]
    pub fn unread(self) -> u64 {
        tty_unread(self.0)
    }

    /// Inode number of the pty in devpts, the same for both sides: `pty_unix98_install` makes them
    /// with one index.
    #[inline(always)]
    pub fn object(self) -> u64 {
        PTS_INODE + u64::from(field!(self.0, tty_index: u32))
    }

    /// The tty of an open file that is known to be a tty's.
    #[inline(always)]
    pub fn of_file(file: File) -> Self {
        Self(read(file.private(), constant!(layout.ttyfile_tty)))
    }

    /// The tty that a `struct kiocb` reads or writes.
    #[inline(always)]
    pub fn of_call(kiocb: u64) -> Self {
        Self::of_file(File::of_call(kiocb))
    }
}

impl File {
    /// The slave side of a pty, if the file is one.
    #[inline(always)]
    pub fn pts(self) -> Option<Tty> {
        let major = self.device() >> 20;
        (major >= *PTS_MAJORS.start() && major <= *PTS_MAJORS.end()).then(|| Tty::of_file(self))
    }

    /// Either side of a pty, if the file is one.
    #[inline(always)]
    pub fn pty(self) -> Option<Tty> {
        if self.is_ptmx() {
            Some(Tty::of_file(self))
        } else {
            self.pts()
        }
    }

    /// Whether it is the master side of a pty.
    #[inline(always)]
    pub fn is_ptmx(self) -> bool {
        self.device() == PTMX
    }
}

/// Bytes that wait to be read from a tty, in its line discipline and in the flip buffers before it
/// (FIONREAD counts only the line discipline). It is a global function, so that the verifier checks
/// its loop once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tty_unread(tty: u64) -> u64 {
    let discipline = field!(tty, tty_disc_data: u64);
    let head = field!(discipline, ntty_head: u64);
    let mut sum = head.wrapping_sub(field!(discipline, ntty_tail: u64));
    let port = field!(tty, tty_port: u64);
    let mut buffer: u64 = field!(port, port_buf_head: u64);
    for _ in 0..BUFFERS {
        if buffer == 0 {
            break;
        }
        sum += flip_bytes(buffer);
        buffer = long(buffer + u64::from(constant!(layout.flip_next)));
    }
    sum
}

/// Bytes of one flip buffer; for a loop, see [`super::word`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn flip_bytes(buffer: u64) -> u64 {
    let used = field!(buffer, flip_used: u32);
    u64::from(used.saturating_sub(field!(buffer, flip_read: u32)))
}
