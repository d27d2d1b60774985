//! What is fuzzed, and what must hold. `cargo xtask fuzz` runs it with libFuzzer;
//! tests/corpus.rs includes this very file and replays the kept corpus in every `cargo test`.

pub mod btf;
pub mod decode;
pub mod grammar;
pub mod model;
pub mod story;

use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Does something, and tells how many bytes it had on the heap at once.
pub fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let done = work();
    (done, HEAP.peak_usage().saturating_sub(before))
}

/// Heap is bounded.
///
/// # Panics
/// When `peak` is more than `most`, both in bytes.
pub fn suffices(most: usize, peak: usize) {
    assert!(
        peak <= most,
        "{peak} bytes of heap where {most} must suffice"
    );
}
