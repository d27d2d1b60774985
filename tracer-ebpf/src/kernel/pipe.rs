//! Pipes.

use super::{File, constant, field, word};

const S_IFIFO: u16 = 0o010_000;
/// Most slots of a pipe whose lengths are added up: 1 MiB, the limit of unprivileged users
/// (`/proc/sys/fs/pipe-max-size`), has 256.
const SLOTS: u32 = 256;

/// A `struct pipe_inode_info`.
#[derive(Clone, Copy)]
pub struct Pipe(pub u64);

impl Pipe {
    /// Number of open files that can read.
    #[inline(always)]
    pub fn readers(self) -> u32 {
        field!(self.0, pipe_readers: u32)
    }

    /// Number of open files that can write.
    #[inline(always)]
    pub fn writers(self) -> u32 {
        field!(self.0, pipe_writers: u32)
    }

    /// Bytes that it has room for.
    #[inline(always)]
    pub fn capacity(self) -> u32 {
        field!(self.0, pipe_usage: u32).wrapping_mul(constant!(page_size))
    }

    /// Bytes in it.
    #[inline(always)]
    pub fn unread(self) -> u64 {
        pipe_unread(self.0)
    }
}

impl File {
    /// The pipe, if the file is an end of one.
    #[inline(always)]
    pub fn pipe(self) -> Option<Pipe> {
        (self.0 != 0 && self.kind() == S_IFIFO).then(|| self.as_pipe())
    }

    /// The pipe of a file that is known to be an end of one.
    #[inline(always)]
    pub fn as_pipe(self) -> Pipe {
        Pipe(self.private())
    }
}

/// Bytes in a pipe. It is a global function, so that the verifier checks its loop once and not at
/// each caller.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn pipe_unread(pipe: u64) -> u64 {
    let head = field!(pipe, pipe_head: u32);
    let tail = field!(pipe, pipe_tail: u32);
    let mask = field!(pipe, pipe_ring: u32).wrapping_sub(1);
    let bufs = field!(pipe, pipe_bufs: u64);
    let used = head.wrapping_sub(tail);
    let mut sum = 0u64;
    for i in 0..SLOTS {
        if i >= used {
            break;
        }
        let slot = tail.wrapping_add(i) & mask;
        let at = slot
            .wrapping_mul(constant!(pipe_buf_size))
            .wrapping_add(constant!(layout.pipe_buf_len));
        sum += word(bufs + u64::from(at));
    }
    sum
}
