//! Which load's programs work. While one tracer takes over from another of a different version, both
//! have theirs attached, and both use the same tables: one write to a table hands over between them, so
//! that every event is counted once.

use aya_ebpf::{macros::map, maps::Array};

/// The number of the load that is on duty.
#[map]
static DUTY: Array<u64> = Array::with_max_entries(1, 0);

/// Nothing that programs use: what one tracer leaves to the next.
#[map]
static LEGACY: Array<u64> = Array::with_max_entries(tracer_ebpf::legacy::ENTRIES, 0);

/// The number of this load.
#[unsafe(no_mangle)]
static MINE: u64 = 0;

/// Whether this load's programs are to do anything.
#[inline(always)]
pub fn on_duty() -> bool {
    // SAFETY: reads a static; volatile because user space replaces its bytes before loading.
    let mine = unsafe { core::ptr::read_volatile(&raw const MINE) };
    // SAFETY: an entry of an array is always there, and written as a whole.
    DUTY.get_ptr(0).is_some_and(|load| unsafe { *load } == mine)
}
