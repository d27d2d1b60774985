//! The constants that user space injects into the programs before it loads them.

use zerocopy::{Immutable, IntoBytes};

use super::{Layout, OPTIONAL};

/// Constants of one load: a read-only global of the object, which the verifier treats as constants.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub struct Config {
    /// Offsets of kernel fields.
    pub layout: Layout,
    /// Bytes of a `struct pipe_buffer`.
    pub pipe_buf_size: u32,
    /// Bytes of a `struct upid`.
    pub upid_size: u32,
    /// Value of a file's reference counter for one reference: 1, and 0 since `file_ref_t` (6.13).
    pub one_ref: u32,
    /// Bytes of a page.
    pub page_size: u32,
    /// Value of `O_DIRECT` on this architecture.
    pub o_direct: u32,
    /// Offset of the file in a node of an io_uring's file table (since 6.13); [`OPTIONAL`] where the
    /// table holds the files themselves.
    pub ring_node_file: u32,
    /// Length of a jiffy in ns.
    pub tick: u32,
    /// 1 where the kernel can preempt a program, so that programs have backups; otherwise 0.
    pub backups: u32,
    /// System call numbers of this architecture.
    pub sys: Sys,
}

/// System call numbers; [`Sys::NONE`] for a call that the architecture does not have.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
#[expect(missing_docs, reason = "the fields are the system calls' names")]
pub struct Sys {
    pub read: u32,
    pub readv: u32,
    pub write: u32,
    pub writev: u32,
    pub pipe: u32,
    pub pipe2: u32,
    pub close: u32,
    pub dup2: u32,
    pub dup3: u32,
    pub wait4: u32,
    pub socketpair: u32,
    pub sendto: u32,
    pub sendmsg: u32,
    pub recvfrom: u32,
    pub recvmsg: u32,
}

impl Sys {
    /// Stands for a call that the architecture does not have.
    pub const NONE: u32 = u32::MAX;
}

impl Config {
    /// The value in the object file, before user space has filled it in.
    pub const EMPTY: Self = Self {
        layout: Layout::UNRESOLVED,
        pipe_buf_size: 0,
        upid_size: 0,
        one_ref: 0,
        page_size: 0,
        o_direct: 0,
        ring_node_file: OPTIONAL,
        tick: 0,
        backups: 0,
        sys: Sys {
            read: Sys::NONE,
            readv: Sys::NONE,
            write: Sys::NONE,
            writev: Sys::NONE,
            pipe: Sys::NONE,
            pipe2: Sys::NONE,
            close: Sys::NONE,
            dup2: Sys::NONE,
            dup3: Sys::NONE,
            wait4: Sys::NONE,
            socketpair: Sys::NONE,
            sendto: Sys::NONE,
            sendmsg: Sys::NONE,
            recvfrom: Sys::NONE,
            recvmsg: Sys::NONE,
        },
    };
}
