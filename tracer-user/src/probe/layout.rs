//! Fills in the programs' [`Config`] for the running kernel: offsets from its BTF, and constants.

use rustix::time::ClockId;
use tracer_ebpf::{Config, Layout, OPTIONAL, Sys};

use super::{
    btf::{Btf, BtfError},
    preemption,
};

/// A field that this kernel does not have.
#[derive(Clone, Debug)]
pub struct Missing {
    /// `struct.member`.
    pub field: String,
    /// What lastbyte cannot report without it; `None` when nothing works without it.
    pub cost: Option<&'static str>,
    /// Why it could not be resolved.
    pub reason: String,
}

/// Resolves every field. Returns the fields that are missing as well, with what each costs.
///
/// # Errors
/// When the size of a struct is unknown. A missing field is no error here.
pub fn resolve(btf: &Btf<'_>) -> Result<(Config, Vec<Missing>), BtfError> {
    let mut missing = Vec::new();
    let mut offsets = Vec::with_capacity(Layout::MEMBERS.len());
    for member in Layout::MEMBERS {
        let mut last = None;
        let found = member
            .paths
            .iter()
            .find_map(|path| match btf.offset_of(member.of, path) {
                Ok(offset) => Some(offset),
                Err(error) => {
                    last = Some(error);
                    None
                }
            });
        if found.is_none() {
            missing.push(Missing {
                field: format!("{}.{}", member.of, member.paths[0]),
                cost: member.cost,
                reason: last.map(|error| error.to_string()).unwrap_or_default(),
            });
        }
        offsets.push(found.unwrap_or(OPTIONAL));
    }
    let mut layout = Layout::from_offsets(offsets);
    if cfg!(target_arch = "aarch64") {
        // pt_regs.regs is an array of x0, x1, …. All paths found its beginning, which is also where
        // the result of a function is.
        layout.regs_arg1 = layout.regs_arg1.saturating_add(8);
        layout.regs_arg2 = layout.regs_arg2.saturating_add(16);
        layout.regs_arg3 = layout.regs_arg3.saturating_add(24);
    }
    let config = Config {
        layout,
        pipe_buf_size: btf.size_of("pipe_buffer")?,
        upid_size: btf.size_of("upid")?,
        one_ref: u32::from(btf.offset_of("file", "f_ref.refcnt").is_err()),
        o_direct: libc::O_DIRECT.cast_unsigned(),
        page_size: rustix::param::page_size() as u32,
        // The resolution of this clock is a jiffy (`hrtimer_get_res`'s LOW_RES_NSEC, kernel/time/posix-timers.c).
        tick: rustix::time::clock_getres(ClockId::MonotonicCoarse).tv_nsec as u32,
        ring_node_file: btf
            .offset_of("io_rsrc_node", "file_ptr")
            .unwrap_or(OPTIONAL),
        backups: u32::from(preemption::is_possible()),
        sys: system_calls(),
    };
    Ok((config, missing))
}

/// System call numbers of this architecture.
fn system_calls() -> Sys {
    let nr = |nr: libc::c_long| u32::try_from(nr).unwrap_or(Sys::NONE);
    Sys {
        read: nr(libc::SYS_read),
        readv: nr(libc::SYS_readv),
        write: nr(libc::SYS_write),
        writev: nr(libc::SYS_writev),
        #[cfg(target_arch = "x86_64")]
        pipe: nr(libc::SYS_pipe),
        #[cfg(not(target_arch = "x86_64"))]
        pipe: Sys::NONE,
        pipe2: nr(libc::SYS_pipe2),
        close: nr(libc::SYS_close),
        #[cfg(target_arch = "x86_64")]
        dup2: nr(libc::SYS_dup2),
        #[cfg(not(target_arch = "x86_64"))]
        dup2: Sys::NONE,
        dup3: nr(libc::SYS_dup3),
        wait4: nr(libc::SYS_wait4),
        socketpair: nr(libc::SYS_socketpair),
        sendto: nr(libc::SYS_sendto),
        sendmsg: nr(libc::SYS_sendmsg),
        recvfrom: nr(libc::SYS_recvfrom),
        recvmsg: nr(libc::SYS_recvmsg),
    }
}
