//! Which load of the programs is active.
//!
//! While one tracer takes over from another of a different version, the programs of both are
//! attached and use the same tables. A single write to a table switches from one load to the other,
//! so that every event is counted once. Every entry point asks [`is_active`] first.

use aya_ebpf::{macros::map, maps::Array};

/// Number of the active load. User space writes it.
#[map]
static ACTIVE_LOAD: Array<u64> = Array::with_max_entries(1, 0);

/// What one tracer hands to the next. No program uses it; it is declared here so that it is made and
/// pinned with the other tables.
#[map]
static CARRY_OVER: Array<u64> = Array::with_max_entries(tracer_ebpf::carry_over::ENTRIES, 0);

/// Number of this load. User space sets it before it loads the programs.
#[unsafe(no_mangle)]
static LOAD_ID: u64 = 0;

/// Whether the programs of this load are the ones that work.
#[inline(always)]
pub fn is_active() -> bool {
    // SAFETY: reads a static; volatile because user space replaces its bytes before loading.
    let this = unsafe { core::ptr::read_volatile(&raw const LOAD_ID) };
    // SAFETY: an entry of an array always exists, and is written as a whole.
    ACTIVE_LOAD
        .get_ptr(0)
        .is_some_and(|load| unsafe { *load } == this)
}
