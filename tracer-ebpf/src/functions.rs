//! Kernel functions as the `fentry` and `kprobe` backends see them: one body, and a program of each
//! kind that runs it.
//!
//! An fexit program gets the arguments together with the result. A kretprobe gets only the result,
//! so the function's kprobe saves the arguments of those calls whose end matters.
//!
//! The kernel may skip a kretprobe: it follows a limited number of calls at once, in all processes
//! together (`kretprobe.maxactive`). The saved arguments of such a call are still there when its
//! thread begins another call or ends. They count as a loss and are never used for another call.
//!
//! The kernel may skip an fexit program, too. Where it can preempt one, and another process reaches
//! the same program on the same CPU, that process's run is skipped (`__bpf_prog_enter_recur`,
//! kernel/bpf/trampoline.c). There each program has a backup program. The first of the two that
//! reaches a return handles it, and leaves a note for the other. A note that stays because the other
//! was skipped is dropped when the thread's next call begins. So an event is lost only if both
//! programs are skipped, or two programs of the function in a row.

use aya_ebpf::{
    EbpfContext,
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};
use tracer_ebpf::loss;

use crate::{
    calls::{self, HandledReturn, SavedArgs},
    emit::count_loss,
    kernel::{constant, field, read},
};

/// The arguments of a call, each as a register holds it.
pub trait Arguments {
    fn arg(&self, n: usize) -> u64;

    /// The argument as a number. The verifier does not let a program pass a typed pointer to a
    /// global function.
    #[inline(always)]
    fn number(&self, n: usize) -> u64 {
        self.arg(n)
    }
}

impl Arguments for FEntryContext {
    #[inline(always)]
    fn arg(&self, n: usize) -> u64 {
        self.arg(n)
    }

    #[inline(always)]
    fn number(&self, n: usize) -> u64 {
        read(self.as_ptr() as u64, 8 * n as u32)
    }
}

impl Arguments for FExitContext {
    #[inline(always)]
    fn arg(&self, n: usize) -> u64 {
        self.arg(n)
    }
}

/// Uses a helper: before 6.11 the verifier lets no program read the context at an offset that is not
/// a constant of the instruction (`check_ptr_off_reg`, kernel/bpf/verifier.c).
impl Arguments for ProbeContext {
    #[inline(always)]
    fn arg(&self, n: usize) -> u64 {
        let offset = match n {
            0 => constant!(layout.regs_arg0),
            1 => constant!(layout.regs_arg1),
            _ => constant!(layout.regs_arg2),
        };
        read(self.as_ptr() as u64, offset)
    }
}

impl Arguments for SavedArgs {
    #[inline(always)]
    fn arg(&self, n: usize) -> u64 {
        self.args[n]
    }
}

/// A call begins: saves its arguments if its end matters. What an earlier call left is dropped in
/// any case, or this call's return would use the earlier call's arguments.
#[inline(always)]
pub fn save_args(function: u64, call: &ProbeContext, matters: bool) {
    count_stale();
    if matters {
        let args = [0, 1, 2].map(|n| Arguments::arg(call, n));
        calls::begin(SavedArgs { function, args });
    }
}

/// A call returns: its saved arguments and its result.
#[inline(always)]
pub fn take_args(function: u64, ctx: &RetProbeContext) -> Option<(SavedArgs, u64)> {
    let saved = calls::end()?.saved_args();
    if saved.function != function {
        count_loss(loss::CALLS);
        return None;
    }
    Some((saved, field!(ctx.as_ptr() as u64, regs_result: u64)))
}

/// A call begins: drops the note of the thread's previous return, which no program needs any more.
#[inline(always)]
pub fn clear_pending() {
    if constant!(backups) != 0 {
        let _ = calls::end();
    }
}

/// One of the two programs that see the same event, where programs have backups.
#[derive(Clone, Copy)]
pub enum Program {
    Primary = 1,
    Backup = 2,
}

/// Whether an event that was handled may be handled once more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It changes nothing the second time.
    Harmless,
    /// It would count something twice.
    Forbidden,
}

impl Repeat {
    /// Forbidden if the event was counted.
    #[inline(always)]
    pub fn unless_counted(counted: bool) -> Self {
        match counted {
            true => Self::Forbidden,
            false => Self::Harmless,
        }
    }
}

/// A call returns: handles that with `handle`, unless the other program just did.
#[inline(always)]
pub fn report_once(function: u64, this: Program, result: u64, handle: impl FnOnce() -> Repeat) {
    let backups = constant!(backups) != 0;
    let by_other = |call: calls::Call| {
        let note = call.handled_return();
        // A note of this very program is about an earlier call, whose return the other did not see.
        note.function == function && note.result == result && note.by != this as u64
    };
    if backups && calls::end().is_some_and(by_other) {
        return;
    }
    if handle() == Repeat::Forbidden && backups {
        calls::begin(HandledReturn {
            function,
            result,
            by: this as u64,
            pad: 0,
        });
    }
}

/// The current thread is in no call: counts what is still pending as a return that was not seen.
#[inline(always)]
pub fn count_stale() {
    if calls::end().is_some() {
        count_loss(loss::CALLS);
    }
}

/// The result of a function that returns an `int`: the upper half of the register may be anything.
#[inline(always)]
pub fn int(result: u64) -> i64 {
    i64::from(result as i32)
}

/// A number for a function's name (FNV-1a).
pub const fn function_id(name: &str) -> u64 {
    let (name, mut hash, mut i) = (name.as_bytes(), 0xcbf2_9ce4_8422_2325_u64, 0);
    while i < name.len() {
        hash = (hash ^ name[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
}

/// Programs that run when a kernel function begins: `fentry_NAME` and `kprobe_NAME`. The backup runs
/// the same body again, which changes nothing.
macro_rules! on_entry {
    ($(#[$doc:meta])* fn $name:ident($call:ident) $body:block) => {
        $(#[$doc])*
        mod $name {
            use super::*;

            #[inline(always)]
            fn entry($call: &impl Arguments) $body

            program!("fentry", $name, "", fentry(ctx: FEntryContext) { entry(&ctx) });
            program!("fentry", $name, "_backup", backup(ctx: FEntryContext) { entry(&ctx) });
            program!("kprobe", $name, "", kprobe(ctx: ProbeContext) { entry(&ctx) });
        }
    };
}
pub(crate) use on_entry;

/// Programs that run when a kernel function returns: `fexit_NAME` with its backup, and
/// `kretprobe_NAME` with a `kprobe_NAME` that saves the arguments.
///
/// `fn pipe_read(call: 2) -> result` is a function with two parameters. Before the body comes one of
/// two blocks that say whether the end of a call matters: `when { … }` only asks, and `enter { … }`
/// also has something to do when the call begins. With `enter` there is a `fentry_NAME` too; with
/// `when` that program is only needed for backups. The body returns a [`Repeat`].
macro_rules! on_return {
    (
        $(#[$doc:meta])*
        fn $name:ident($call:ident: $parameters:literal) -> $result:ident
        $how:ident $begin:block $body:block
    ) => {
        $(#[$doc])*
        mod $name {
            use super::*;

            const ID: u64 = functions::function_id(stringify!($name));

            /// Whether the end of this call matters.
            #[inline(always)]
            fn begin($call: &impl Arguments) -> bool {
                let _ = $call;
                $begin
            }

            #[inline(always)]
            fn end($call: &impl Arguments, $result: u64) -> Repeat $body

            program!("fentry", $name, "", fentry(ctx: FEntryContext) {
                functions::clear_pending();
                on_return!(@$how ctx);
            });
            program!("fexit", $name, "", fexit(ctx: FExitContext) {
                let result = ctx.arg($parameters);
                functions::report_once(ID, Program::Primary, result, || end(&ctx, result));
            });
            program!("fexit", $name, "_backup", backup(ctx: FExitContext) {
                let result = ctx.arg($parameters);
                functions::report_once(ID, Program::Backup, result, || end(&ctx, result));
            });
            program!("kprobe", $name, "", kprobe(ctx: ProbeContext) {
                functions::save_args(ID, &ctx, begin(&ctx));
            });
            program!("kretprobe", $name, "", kretprobe(ctx: RetProbeContext) {
                if let Some((call, result)) = functions::take_args(ID, &ctx) {
                    end(&call, result);
                }
            });
        }
    };
    (@when $ctx:ident) => { let _ = $ctx; };
    (@enter $ctx:ident) => { begin(&$ctx); };
}
pub(crate) use on_return;

/// One program of a kind, in the section that names the kind for aya. Its name is `KIND_NAME` and a
/// suffix.
macro_rules! program {
    (
        $kind:literal, $name:ident, $suffix:literal,
        $function:ident($ctx:ident: $context:ty) $body:block
    ) => {
        #[unsafe(link_section = $kind)]
        #[unsafe(export_name = concat!($kind, "_", stringify!($name), $suffix))]
        fn $function(ctx: *mut c_void) -> u32 {
            if active_load::is_active() {
                let $ctx = <$context>::new(ctx);
                $body
            }
            0
        }
    };
}
pub(crate) use program;
