//! What is fuzzed, and what must hold. `cargo xtask fuzz` runs it with libFuzzer;
//! tests/corpus.rs includes this very file and replays the kept corpus in every `cargo test`.

pub mod btf;
pub mod decode;
pub mod grammar;
pub mod model;
pub mod story;

use peak_alloc::PeakAlloc;
use tracer_ebpf::Record;
use zerocopy::IntoBytes;

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

/// The bytes that were decoded.
pub fn record_bytes<'a>(record: &Record<'a>) -> &'a [u8] {
    match *record {
        Record::Fork(it) => it.as_bytes(),
        Record::Exec(it) | Record::Process(it) => it.as_bytes(),
        Record::Exit(it) => it.as_bytes(),
        Record::SessionStart(it) => it.as_bytes(),
        Record::Chld(it) => it.as_bytes(),
        Record::Signal(it) => it.as_bytes(),
        Record::Stream(it) => it.as_bytes(),
        Record::Conn(it) => it.as_bytes(),
        Record::Start(it) => it.as_bytes(),
        Record::Tick(it) | Record::Ready(it) => it.as_bytes(),
        Record::Loss(it) => it.as_bytes(),
        Record::User(it) => it.as_bytes(),
        Record::ScanBegin(it) | Record::ScanEnd(it) => it.as_bytes(),
        Record::Holder(it) => it.as_bytes(),
        Record::Socket(it) => it.as_bytes(),
        Record::Passed(it) => it.as_bytes(),
        Record::Cgroup(it) => it.as_bytes(),
    }
}
