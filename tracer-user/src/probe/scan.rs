//! Runs the kernel's iterators: who holds which stream, which processes there are.

use std::io::Read;

use tracer_ebpf::{Fork, Holder, Socket};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::kernel_objects::KernelObjects;

/// Why a walk failed.
#[derive(Debug, thiserror::Error)]
#[error("walking over all processes ({program}): {reason}")]
pub struct ScanError {
    program: &'static str,
    reason: String,
}

/// Every descriptor of a stream, or of any pipe: [`super::tables::Tables::scan_all`].
pub fn descriptors(side: &mut KernelObjects) -> Result<Vec<Holder>, ScanError> {
    walk(side, "task_file")
}

/// Every end of a stream, or of any pipe, that no descriptor shows.
pub fn hidden(side: &mut KernelObjects) -> Result<Vec<Holder>, ScanError> {
    walk(side, "task_inflight")
}

/// Every TCP socket that a connection may be kept open for, or simply every one.
pub fn sockets(side: &mut KernelObjects) -> Result<Vec<Socket>, ScanError> {
    walk(side, "task_socket")
}

/// Every process, told as a fork by its parent.
pub fn processes(side: &mut KernelObjects) -> Result<Vec<Fork>, ScanError> {
    walk(side, "task")
}

fn walk<T: FromBytes + KnownLayout + Immutable>(
    side: &mut KernelObjects,
    program: &'static str,
) -> Result<Vec<T>, ScanError> {
    let fail = |reason: String| ScanError { program, reason };
    let iter = side.iterator(program).map_err(fail)?;
    let link = iter.attach().map_err(|error| fail(error.to_string()))?;
    let link = iter
        .take_link(link)
        .map_err(|error| fail(error.to_string()))?;
    let mut file = link.into_file().map_err(|error| fail(error.to_string()))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .map_err(|error| fail(error.to_string()))?;
    let whole = bytes.chunks_exact(size_of::<T>());
    if !whole.remainder().is_empty() {
        return Err(fail("the kernel gave half a record".to_owned()));
    }
    Ok(whole
        .filter_map(|record| T::read_from_bytes(record).ok())
        .collect())
}
