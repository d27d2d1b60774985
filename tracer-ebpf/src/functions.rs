//! Kernel functions as the `fentry` and `kprobe` backends see them: one body, a program for each.
//!
//! An fexit program has the arguments beside the result. A kretprobe has the result alone: its
//! kprobe keeps the arguments of those calls whose end matters.
//!
//! The kernel may not tell of a return: it follows a limited number of calls at once, in all
//! processes together (`kretprobe.maxactive`). Such a call's arguments are still there when its
//! thread begins another or ends, and count as lost; they are never taken for another call's.
//!
//! The kernel skips an fexit program, too, where one can be preempted and another process comes to it on
//! the same CPU (`__bpf_prog_enter_recur`, kernel/bpf/trampoline.c). There each has a twin, and the first
//! of the two that comes to a return keeps that it has told of it until the other comes. What is kept
//! because that was skipped is dropped as the thread's next call begins: so an event is lost only if
//! both are skipped, or two of the function's programs are in a row.

use aya_ebpf::{
    EbpfContext,
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};
use tracer_ebpf::loss;

use crate::{
    calls,
    emit::lost,
    kernel::{constant, field, read},
};

/// The arguments of a call, each as a register holds it.
pub trait Arguments {
    fn arg(&self, n: usize) -> u64;

    /// The same as a number: the verifier gives no typed pointer to a global function.
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

/// Read by a helper: before 6.11 the verifier lets no program read the context at an offset that
/// is not written into the instruction (`check_ptr_off_reg`, kernel/bpf/verifier.c).
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

impl Arguments for calls::Call {
    #[inline(always)]
    fn arg(&self, n: usize) -> u64 {
        self.args[n]
    }
}

/// A call has just begun; its arguments are kept if its end matters. What another left is dropped
/// also where it does not, or this call's return would be taken for that one's.
#[inline(always)]
pub fn begun(what: u64, call: &ProbeContext, matters: bool) {
    missed();
    if matters {
        let args = [0, 1, 2].map(|n| Arguments::arg(call, n));
        calls::begin(what, args);
    }
}

/// The kept arguments of a call that has just ended, and its result.
#[inline(always)]
pub fn kept(what: u64, ctx: &RetProbeContext) -> Option<(calls::Call, u64)> {
    let call = calls::end()?;
    if call.what != what {
        lost(loss::CALLS);
        return None;
    }
    Some((call, field!(ctx.as_ptr() as u64, regs_result: u64)))
}

/// A call begins: what its thread has kept of the one before, as the other twin was skipped, is of no use
/// any more.
#[inline(always)]
pub fn begins() {
    if constant!(twins) != 0 {
        let _ = calls::end();
    }
}

/// Which of two twins a program is.
#[derive(Clone, Copy)]
pub enum Twin {
    First = 1,
    Again = 2,
}

/// A call returns: tells of it, unless the program's twin just did. `tell` says whether there was
/// anything to tell that must not be told again.
#[inline(always)]
pub fn returns(what: u64, this: Twin, result: u64, tell: impl FnOnce() -> bool) {
    let twins = constant!(twins) != 0;
    let by_other = |kept: calls::Call| {
        let [told, by, _] = kept.args;
        // What this very program has kept is of an earlier call, whose return the other did not see.
        kept.what == what && told == result && by != this as u64
    };
    if twins && calls::end().is_some_and(by_other) {
        return;
    }
    if tell() && twins {
        calls::begin(what, [result, this as u64, 0]);
    }
}

/// The current thread is in no call: what is still kept of one is of a return that was not told.
#[inline(always)]
pub fn missed() {
    if calls::end().is_some() {
        lost(loss::CALLS);
    }
}

/// The result of a function that returns an `int`: the upper half of the register may be anything.
#[inline(always)]
pub fn int(result: u64) -> i64 {
    i64::from(result as i32)
}

/// A number for a function's name (FNV-1a).
pub const fn number_of(name: &str) -> u64 {
    let (name, mut hash, mut i) = (name.as_bytes(), 0xcbf2_9ce4_8422_2325_u64, 0);
    while i < name.len() {
        hash = (hash ^ name[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
}

/// Programs that run as a kernel function begins: `fentry_NAME`, `kprobe_NAME`. The twin tells all of it
/// again, which changes nothing.
macro_rules! on_entry {
    ($(#[$doc:meta])* fn $name:ident($call:ident) $body:block) => {
        $(#[$doc])*
        mod $name {
            use super::*;

            #[inline(always)]
            fn entry($call: &impl Arguments) $body

            program!("fentry", $name, "", fentry(ctx: FEntryContext) { entry(&ctx) });
            program!("fentry", $name, "_again", again(ctx: FEntryContext) { entry(&ctx) });
            program!("kprobe", $name, "", kprobe(ctx: ProbeContext) { entry(&ctx) });
        }
    };
}
pub(crate) use on_entry;

/// Programs that run as a kernel function returns: `fexit_NAME` with its twin, and `kretprobe_NAME` with
/// a `kprobe_NAME` that keeps the arguments of calls of which `when` holds. `enter` in its place has also
/// something to do as the call begins: `fentry_NAME`, which without it is for twins only. The body says
/// whether it must not run again for the same call.
///
/// `fn pipe_read(call: 2) -> result` is a function of two parameters.
macro_rules! on_return {
    (
        $(#[$doc:meta])*
        fn $name:ident($call:ident: $parameters:literal) -> $result:ident
        $how:ident $begin:block $body:block
    ) => {
        $(#[$doc])*
        mod $name {
            use super::*;

            const NUMBER: u64 = functions::number_of(stringify!($name));

            /// Whether the call's end matters.
            #[inline(always)]
            fn begin($call: &impl Arguments) -> bool {
                let _ = $call;
                $begin
            }

            #[inline(always)]
            fn end($call: &impl Arguments, $result: u64) -> bool $body

            program!("fentry", $name, "", fentry(ctx: FEntryContext) {
                functions::begins();
                on_return!(@$how ctx);
            });
            program!("fexit", $name, "", fexit(ctx: FExitContext) {
                let result = ctx.arg($parameters);
                functions::returns(NUMBER, functions::Twin::First, result, || end(&ctx, result));
            });
            program!("fexit", $name, "_again", again(ctx: FExitContext) {
                let result = ctx.arg($parameters);
                functions::returns(NUMBER, functions::Twin::Again, result, || end(&ctx, result));
            });
            program!("kprobe", $name, "", kprobe(ctx: ProbeContext) {
                functions::begun(NUMBER, &ctx, begin(&ctx));
            });
            program!("kretprobe", $name, "", kretprobe(ctx: RetProbeContext) {
                if let Some((call, result)) = functions::kept(NUMBER, &ctx) {
                    end(&call, result);
                }
            });
        }
    };
    (@when $ctx:ident) => { let _ = $ctx; };
    (@enter $ctx:ident) => { begin(&$ctx); };
}
pub(crate) use on_return;

/// One program of a kind, in the section that tells aya the kind, named `KIND_NAME` and a suffix.
macro_rules! program {
    (
        $kind:literal, $name:ident, $suffix:literal,
        $function:ident($ctx:ident: $context:ty) $body:block
    ) => {
        #[unsafe(link_section = $kind)]
        #[unsafe(export_name = concat!($kind, "_", stringify!($name), $suffix))]
        fn $function(ctx: *mut c_void) -> u32 {
            if duty::on_duty() {
                let $ctx = <$context>::new(ctx);
                $body
            }
            0
        }
    };
}
pub(crate) use program;
