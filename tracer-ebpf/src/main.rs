//! Entry points only: an attach point, its arguments, one call.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(
    internal_features,
    reason = "the only way to an atomic addition on this target"
)]

mod calls;
mod duty;
mod emit;
mod functions;
mod hidden;
mod holders;
mod kernel;
mod lineage;
mod passed;
mod pipe;
mod signal;
mod sockets;
mod streams;
mod syscalls;
mod tcp;
mod tty;
mod unix;

use core::ffi::c_void;

use aya_ebpf::{
    macros::btf_tracepoint,
    programs::{BtfTracePointContext, FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};
use functions::{Arguments, Twin, on_entry, on_return, program};
use kernel::{File, Sock, Task, field};
use tty::Tty;
use unix::Unix;

/// The kernel refuses GPL-only helpers to other licences; "Dual MIT/GPL" is the string it knows
/// (include/linux/license.h) for a permissive licence that is compatible.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Programs at a tracepoint. A twin finds that an event has been told, or tells it again, which changes
/// nothing: see `functions`.
macro_rules! on_tracepoint {
    ($at:tt => $($name:ident),+; |$ctx:pat_param| $body:expr) => {$(
        #[btf_tracepoint(function = $at)]
        fn $name(ctx: BtfTracePointContext) -> i32 {
            if duty::on_duty() {
                let $ctx = ctx;
                $body;
            }
            0
        }
    )+};
}

on_tracepoint! {
    "sched_process_fork" => process_fork, process_fork_again;
    |ctx| lineage::fork(Task(ctx.arg(0)), Task(ctx.arg(1)))
}

on_tracepoint! {
    "sched_process_exec" => process_exec, process_exec_again;
    |ctx| lineage::exec(&ctx, Task(ctx.arg(0)))
}

on_tracepoint! {
    "sched_process_exit" => process_exit, process_exit_again;
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
    "inet_sock_set_state" => inet_sock_set_state, inet_sock_set_state_again;
    |ctx| tcp::state(Sock(ctx.arg(0)), ctx.arg(1), ctx.arg(2))
}

// Backends fentry and kprobe.

on_return! {
    /// `create_pipe_files` makes the read end as a clone of the write end (fs/pipe.c), and only here
    /// can both be had: its own argument is a pointer to pointers, which the verifier gives to no
    /// fexit program.
    fn pipe_create(call: 3) -> result
    when { streams::by_server() }
    {
        pipe::cloned(File(call.arg(0)), File(result));
        false
    }
}

on_return! {
    fn pipe_write(call: 2) -> result
    enter { pipe::write_enter(call.arg(0)) }
    {
        let left = field!(call.arg(1), iter_count: u64);
        streams::write_exit(pipe::of_call(call.arg(0)), result as i64, left)
    }
}

on_return! {
    fn pipe_read(call: 2) -> result
    when { streams::is_stream(pipe::of_call(call.arg(0))) }
    { streams::read_exit(pipe::of_call(call.arg(0)), result as i64) }
}

on_entry! {
    fn pipe_release(call) { pipe::release(File(call.arg(1))) }
}

on_entry! {
    fn pipe_free(call) { streams::freed(call.arg(0)) }
}

on_return! {
    fn unix_pair(call: 2) -> _result
    when { streams::by_server() }
    {
        unix::paired(call.arg(0), call.arg(1));
        false
    }
}

on_return! {
    fn unix_send(call: 3) -> result
    enter { streams::write_enter(unix::written(Unix::of_socket(call.arg(0))), File(0)) }
    {
        let key = unix::written(Unix::of_socket(call.arg(0)));
        streams::write_exit(key, functions::int(result), call.arg(2))
    }
}

on_return! {
    fn unix_receive(call: 4) -> result
    when { unix::taken(Unix::of_socket(call.arg(0))) != 0 }
    { streams::read_exit(unix::taken(Unix::of_socket(call.arg(0))), functions::int(result)) }
}

on_entry! {
    fn unix_release(call) { unix::release(Unix(call.number(0)), 1) }
}

on_return! {
    fn pty_write(call: 3) -> result
    when { streams::is_stream(Tty(call.arg(0)).link().0) }
    { streams::write_exit(Tty(call.arg(0)).link().0, functions::int(result), 0) }
}

on_return! {
    fn tty_read(call: 2) -> result
    when { streams::is_stream(tty::of_call(call.arg(0)).0) }
    { streams::read_exit(tty::of_call(call.arg(0)).0, result as i64) }
}

on_return! {
    /// The same before 5.12: `tty_read(file, buf, count, ppos)`.
    fn tty_read_old(call: 4) -> result
    when { streams::is_stream(tty::of_file(File(call.arg(0))).0) }
    { streams::read_exit(tty::of_file(File(call.arg(0))).0, result as i64) }
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
    /// A message gets its files (`unix_attach_fds`, net/unix/af_unix.c). Where that is seen by the
    /// list being copied, a receiver that only peeks copies it as well and counts as another sender.
    fn files_sent(call) { passed::sent(call.number(0)) }
}

on_entry! {
    fn files_received(call) { passed::received(call.arg(1)) }
}

// A thread ends, with twins.
on_tracepoint! {
    "sched_process_exit" => thread_exit_told;
    |_| functions::begins()
}

// A thread ends, with kprobes.
on_tracepoint! {
    "sched_process_exit" => thread_exit;
    |_| functions::missed()
}

// Backend syscall.

on_tracepoint! {
    "sys_enter" => sys_enter;
    |ctx| syscalls::enter(ctx.arg(0), ctx.arg(1), Twin::First)
}

on_tracepoint! {
    "sys_enter" => sys_enter_again;
    |ctx| syscalls::enter(ctx.arg(0), ctx.arg(1), Twin::Again)
}

on_tracepoint! {
    "sys_exit" => sys_exit, sys_exit_again;
    |ctx| syscalls::exit(ctx.arg(1))
}

on_tracepoint! {
    "sched_process_exit" => process_exit_files, process_exit_files_again;
    |ctx| syscalls::process_exit(Task(ctx.arg(0)))
}

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

/// aya has no macro for iterators.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
fn task_file(ctx: *const TaskFile) -> i32 {
    each_file(ctx, holders::descriptor)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
fn task_hidden(ctx: *const TaskFile) -> i32 {
    each_file(ctx, hidden::descriptor)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
fn task_socket(ctx: *const TaskFile) -> i32 {
    each_file(ctx, sockets::descriptor)
}

#[inline(always)]
fn each_file(ctx: *const TaskFile, tell: impl FnOnce(*mut c_void, Task, u32, File)) -> i32 {
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
    tell(seq, Task(task as u64), fd, File(file as u64));
    0
}

/// `struct bpf_iter__task` (kernel/bpf/task_iter.c).
#[repr(C)]
struct EachTask {
    meta: *const IterMeta,
    task: *const c_void,
}

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
