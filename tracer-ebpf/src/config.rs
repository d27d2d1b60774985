//! What user space injects into the programs before they are loaded.

use zerocopy::{Immutable, IntoBytes};

use crate::{Layout, OPTIONAL};

/// Constants of one load, a read-only global of the object.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub struct Config {
    /// Where fields are.
    pub layout: Layout,
    /// Size of a `struct pipe_buffer`.
    pub pipe_buf_size: u32,
    /// Size of a `struct upid`.
    pub upid_size: u32,
    /// What a file's reference counter shows for one reference: 1, and 0 since `file_ref_t` (6.13).
    pub one_ref: u32,
    /// Bytes of a page.
    pub page_size: u32,
    /// `O_DIRECT` of this architecture.
    pub o_direct: u32,
    /// Where a node of an io_uring's table has its file (since 6.13); [`OPTIONAL`](crate::OPTIONAL)
    /// where the table has the files themselves.
    pub ring_node_file: u32,
    /// Length of a jiffy, ns.
    pub tick: u32,
    /// 1 where a program may be preempted, and programs have twins that stand in for them.
    pub twins: u32,
    /// Numbers of the system calls on this architecture.
    pub sys: Sys,
}

/// System call numbers; [`Sys::NONE`] for one that the architecture does not have.
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
    pub close_range: u32,
    pub dup2: u32,
    pub dup3: u32,
    pub wait4: u32,
    pub waitid: u32,
    pub splice: u32,
    pub tee: u32,
    pub vmsplice: u32,
    pub sendfile: u32,
    pub socketpair: u32,
    pub sendto: u32,
    pub sendmsg: u32,
    pub recvfrom: u32,
    pub recvmsg: u32,
}

impl Sys {
    /// No such call here.
    pub const NONE: u32 = u32::MAX;
}

impl Config {
    /// Before user space has filled it in.
    pub const EMPTY: Self = Self {
        layout: Layout::UNRESOLVED,
        pipe_buf_size: 0,
        upid_size: 0,
        one_ref: 0,
        page_size: 0,
        o_direct: 0,
        ring_node_file: OPTIONAL,
        tick: 0,
        twins: 0,
        sys: Sys {
            read: Sys::NONE,
            readv: Sys::NONE,
            write: Sys::NONE,
            writev: Sys::NONE,
            pipe: Sys::NONE,
            pipe2: Sys::NONE,
            close: Sys::NONE,
            close_range: Sys::NONE,
            dup2: Sys::NONE,
            dup3: Sys::NONE,
            wait4: Sys::NONE,
            waitid: Sys::NONE,
            splice: Sys::NONE,
            tee: Sys::NONE,
            vmsplice: Sys::NONE,
            sendfile: Sys::NONE,
            socketpair: Sys::NONE,
            sendto: Sys::NONE,
            sendmsg: Sys::NONE,
            recvfrom: Sys::NONE,
            recvmsg: Sys::NONE,
        },
    };
}
