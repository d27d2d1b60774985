//! The eBPF programs: entry points only. Each ties an attach point and its arguments to one call.
//!
//! The modules, from the bottom up. Each uses only those before it:
//!
//! - `kernel`: typed reads of kernel structs;
//! - `emit`, `active_load`: writing records, and which load is active;
//! - `calls`, `functions`: pending calls, and the programs of kernel functions;
//! - `tasks`, `tcp`, `streams`: the tables of processes, sessions, connections, streams;
//! - `pipe`, `unix`, `tty`: the transports;
//! - `session`: the start of a session;
//! - `io`, `lineage`, `signal`: reads and writes; fork, exec and exit; signals;
//! - `holders`, `inflight`, `sockets`, `scm_rights`: who holds an end, and who passes one on;
//! - `syscalls`: the backend that sees only system calls.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(
    internal_features,
    reason = "the only way to an atomic addition on this target"
)]

mod active_load;
mod calls;
mod emit;
mod functions;
mod holders;
mod inflight;
mod io;
mod kernel;
mod lineage;
mod pipe;
mod scm_rights;
mod session;
mod signal;
mod sockets;
mod streams;
mod syscalls;
mod tasks;
mod tcp;
mod tty;
mod unix;

use core::ffi::c_void;

use aya_ebpf::{
    macros::btf_tracepoint,
    programs::{BtfTracePointContext, FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};
use functions::{Arguments, Program, Repeat, on_entry, on_return, program};
use kernel::{File, Sock, Task, Tty, Unix, field};

/// The kernel refuses GPL-only helpers to other licences; "Dual MIT/GPL" is the string it knows
/// (include/linux/license.h) for a permissive licence that is compatible.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Programs at a tracepoint. A backup program finds that an event has been reported, or reports it
/// again, which changes nothing: see `functions`.
macro_rules! on_tracepoint {
    ($at:tt => $($name:ident),+; |$ctx:pat_param| $body:expr) => {$(
        #[btf_tracepoint(function = $at)]
        fn $name(ctx: BtfTracePointContext) -> i32 {
            if active_load::is_active() {
                let $ctx = ctx;
                $body;
            }
            0
        }
    )+};
}

on_tracepoint! {
    "sched_process_fork" => process_fork, process_fork_backup;
    |ctx| lineage::fork(Task(ctx.arg(0)), Task(ctx.arg(1)))
}

on_tracepoint! {
    "sched_process_exec" => process_exec, process_exec_backup;
    |ctx| lineage::exec(&ctx, Task(ctx.arg(0)))
}

on_tracepoint! {
    "sched_process_exit" => process_exit, process_exit_backup;
    |ctx| lineage::exit(Task(ctx.arg(0)))
}

on_tracepoint! {
    "sched_process_free" => process_free;
    |ctx| lineage::free(Task(ctx.arg(0)))
}

on_tracepoint! {
    "signal_generate" => signal_generate;
    |ctx| signal::generated(ctx.arg(0), Task(ctx.arg(2)))
}

on_tracepoint! {
    "signal_deliver" => signal_deliver;
    |ctx| signal::delivered(ctx.arg(0), ctx.arg(1))
}

on_tracepoint! {
    "inet_sock_set_state" => inet_sock_set_state, inet_sock_set_state_backup;
    |ctx| tcp::state(Sock(ctx.arg(0)), ctx.arg(1), ctx.arg(2))
}

// Backends fentry and kprobe.

on_return! {
    /// `create_pipe_files` makes the read end as a clone of the write end (fs/pipe.c). Only the
    /// clone gives both: the argument of `create_pipe_files` is a pointer to pointers, which the
    /// verifier does not pass to an fexit program.
    fn pipe_create(call: 3) -> result
    when { tasks::current_is_server() }
    {
        pipe::cloned(File(call.arg(0)), File(result));
        Repeat::Harmless
    }
}

on_return! {
    fn pipe_write(call: 2) -> result
    enter {
        let file = File::of_call(call.arg(0));
        io::write_enter(file.as_pipe().0, file)
    }
    {
        let len = field!(call.arg(1), iter_count: u64);
        let pipe = File::of_call(call.arg(0)).as_pipe();
        Repeat::unless_counted(io::write_exit(pipe.0, result as i64, len))
    }
}

on_return! {
    fn pipe_read(call: 2) -> result
    when { streams::is_stream(File::of_call(call.arg(0)).as_pipe().0) }
    {
        let pipe = File::of_call(call.arg(0)).as_pipe();
        Repeat::unless_counted(io::read_exit(pipe.0, result as i64))
    }
}

on_entry! {
    fn pipe_release(call) { pipe::release(File(call.arg(1))) }
}

on_entry! {
    fn pipe_free(call) { streams::remove(call.arg(0)) }
}

on_return! {
    fn unix_pair(call: 2) -> _result
    when { tasks::current_is_server() }
    {
        unix::paired(call.arg(0), call.arg(1));
        Repeat::Harmless
    }
}

on_return! {
    fn unix_send(call: 3) -> result
    enter { io::write_enter(unix::write_target(Unix::of_socket(call.arg(0))), File(0)) }
    {
        let key = unix::write_target(Unix::of_socket(call.arg(0)));
        Repeat::unless_counted(io::write_exit(key, functions::int(result), call.arg(2)))
    }
}

on_return! {
    fn unix_receive(call: 4) -> result
    when { unix::read_source(Unix::of_socket(call.arg(0))) != 0 }
    {
        let key = unix::read_source(Unix::of_socket(call.arg(0)));
        Repeat::unless_counted(io::read_exit(key, functions::int(result)))
    }
}

on_entry! {
    fn unix_release(call) { unix::release(Unix(call.number(0)), 1) }
}

on_return! {
    fn pty_write(call: 3) -> result
    when { streams::is_stream(Tty(call.arg(0)).link().0) }
    {
        let key = Tty(call.arg(0)).link().0;
        Repeat::unless_counted(io::write_exit(key, functions::int(result), 0))
    }
}

on_return! {
    fn tty_read(call: 2) -> result
    when { streams::is_stream(Tty::of_call(call.arg(0)).0) }
    {
        let key = Tty::of_call(call.arg(0)).0;
        Repeat::unless_counted(io::read_exit(key, result as i64))
    }
}

on_return! {
    /// The function before 5.12: `tty_read(file, buf, count, ppos)`.
    fn tty_read_old(call: 4) -> result
    when { streams::is_stream(Tty::of_file(File(call.arg(0))).0) }
    {
        let key = Tty::of_file(File(call.arg(0))).0;
        Repeat::unless_counted(io::read_exit(key, result as i64))
    }
}

on_entry! {
    fn tty_release(call) {
        let file = File(call.arg(1));
        if file.is_ptmx() {
            tty::release(file, 1);
        }
    }
}

on_entry! {
    /// A message gets its files (`unix_attach_fds`, net/unix/af_unix.c). Where the attach point is
    /// the copying of the list, a receiver that only peeks copies it as well, and counts as another
    /// sender.
    fn files_sent(call) { scm_rights::sent(call.number(0)) }
}

on_entry! {
    fn files_received(call) { scm_rights::received(call.arg(1)) }
}

// A thread exits, with backend fentry and backup programs.
on_tracepoint! {
    "sched_process_exit" => thread_exit_clear;
    |_| functions::clear_pending()
}

// A thread exits, with backend kprobe.
on_tracepoint! {
    "sched_process_exit" => thread_exit_count;
    |_| functions::count_stale()
}

// Backend syscall.

on_tracepoint! {
    "sys_enter" => sys_enter;
    |ctx| syscalls::enter(ctx.arg(0), ctx.arg(1), Program::Primary)
}

on_tracepoint! {
    "sys_enter" => sys_enter_backup;
    |ctx| syscalls::enter(ctx.arg(0), ctx.arg(1), Program::Backup)
}

on_tracepoint! {
    "sys_exit" => sys_exit, sys_exit_backup;
    |ctx| syscalls::exit(ctx.arg(1))
}

on_tracepoint! {
    "sched_process_exit" => process_exit_files, process_exit_files_backup;
    |ctx| syscalls::process_exit(Task(ctx.arg(0)))
}

// Iterators, which user space runs.

/// `struct bpf_iter__task_file` (kernel/bpf/task_iter.c).
#[repr(C)]
struct TaskFile {
    meta: *const IterMeta,
    task: *const c_void,
    fd: u32,
    file: *const c_void,
}

/// `struct bpf_iter_meta` (include/linux/bpf.h).
#[repr(C)]
struct IterMeta {
    seq: *mut c_void,
}

/// Reports descriptors that are ends of streams. aya has no macro for iterators.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
fn task_file(ctx: *const TaskFile) -> i32 {
    each_file(ctx, holders::descriptor)
}

/// Reports ends that no descriptor shows.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
fn task_inflight(ctx: *const TaskFile) -> i32 {
    each_file(ctx, inflight::descriptor)
}

/// Reports TCP sockets.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
fn task_socket(ctx: *const TaskFile) -> i32 {
    each_file(ctx, sockets::descriptor)
}

#[inline(always)]
fn each_file(ctx: *const TaskFile, report: impl FnOnce(*mut c_void, Task, u32, File)) -> i32 {
    // SAFETY: the kernel gives a valid context. Its pointers are read once, volatile, because the
    // verifier knows a null-checked pointer only in the register that was checked.
    let (meta, task, fd, file) = unsafe {
        (
            core::ptr::read_volatile(&raw const (*ctx).meta),
            core::ptr::read_volatile(&raw const (*ctx).task),
            core::ptr::read_volatile(&raw const (*ctx).fd),
            core::ptr::read_volatile(&raw const (*ctx).file),
        )
    };
    if task.is_null() || file.is_null() {
        return 0;
    }
    // SAFETY: a valid pointer of the context.
    let seq = unsafe { core::ptr::read_volatile(&raw const (*meta).seq) };
    report(seq, Task(task as u64), fd, File(file as u64));
    0
}

/// `struct bpf_iter__task` (kernel/bpf/task_iter.c).
#[repr(C)]
struct EachTask {
    meta: *const IterMeta,
    task: *const c_void,
}

/// Reports processes.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
fn task(ctx: *const EachTask) -> i32 {
    // SAFETY: as above.
    let (meta, task) = unsafe {
        (
            core::ptr::read_volatile(&raw const (*ctx).meta),
            core::ptr::read_volatile(&raw const (*ctx).task),
        )
    };
    if task.is_null() {
        return 0;
    }
    // SAFETY: a valid pointer of the context.
    let seq = unsafe { core::ptr::read_volatile(&raw const (*meta).seq) };
    holders::process(seq, Task(task as u64));
    0
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: never reached: the verifier accepts no program that could get here.
    unsafe { core::hint::unreachable_unchecked() }
}
