//! The ring buffer of records, and the counters of what could not be recorded.

use aya_ebpf::{
    helpers::bpf_get_smp_processor_id,
    macros::map,
    maps::{PerCpuArray, RingBuf, ring_buf::RingBufEntry},
};
use tracer_ebpf::{Body, Header, Kind, RING_BYTES, loss};

use crate::kernel::now;

#[map]
static RECORDS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// Number of losses by [`loss`] kind.
#[map]
static LOST: PerCpuArray<[u64; loss::KINDS]> = PerCpuArray::with_max_entries(1, 0);

/// Counts one loss of this [`loss`] kind.
#[inline(always)]
pub fn count_loss(kind: u32) {
    let Some(counts) = LOST.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's own slot of a live map; programs do not migrate.
    if let Some(count) = unsafe { &mut *counts }.get_mut(kind as usize) {
        *count += 1;
    }
}

/// Writes one record: zeroes it, writes the header, and lets `fill` fill in the rest in place.
/// Records are too large for the 512 bytes of stack.
#[inline(always)]
pub fn emit<T: Body + 'static>(kind: Kind, fill: impl FnOnce(&mut T)) {
    let Some(mut entry): Option<RingBufEntry<T>> = RECORDS.reserve::<T>(0) else {
        count_loss(loss::RING);
        return;
    };
    let words = entry.as_mut_ptr().cast::<u64>();
    for i in 0..size_of::<T>() / 8 {
        // SAFETY: within the reserved T, whose size is a multiple of 8. Volatile, so that the loop
        // does not become a call of memset, which runs a byte at a time here.
        unsafe { core::ptr::write_volatile(words.add(i), 0) };
    }
    // SAFETY: T is plain data and zero is a valid value of it; it begins with a Header (Body).
    unsafe {
        *entry.as_mut_ptr().cast::<Header>() = Header {
            time: now(),
            kind: kind as u16,
            size: size_of::<T>() as u16,
            cpu: bpf_get_smp_processor_id(),
        };
        fill(&mut *entry.as_mut_ptr());
    }
    entry.submit(0);
}
