//! Runs the kernel's iterators: who holds which stream, which processes there are.

use std::io::Read;

use aya::{Ebpf, programs::Iter};
use tracer_ebpf::{Fork, Holder, Socket};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::load::program_of;

/// Why a walk failed.
#[derive(Debug, thiserror::Error)]
#[error("walking over all processes ({program}): {reason}")]
pub struct ScanError {
    program: &'static str,
    reason: String,
}

/// Every descriptor of a stream, or of any pipe: [`super::tables::Tables::scan_all`].
pub fn descriptors(ebpf: &mut Ebpf) -> Result<Vec<Holder>, ScanError> {
    walk(ebpf, "task_file")
}

/// Every end of a stream, or of any pipe, that no descriptor shows.
pub fn hidden(ebpf: &mut Ebpf) -> Result<Vec<Holder>, ScanError> {
    walk(ebpf, "task_hidden")
}

/// Every TCP socket that a connection may be kept open for, or simply every one.
pub fn sockets(ebpf: &mut Ebpf) -> Result<Vec<Socket>, ScanError> {
    walk(ebpf, "task_socket")
}

/// Every process, told as a fork by its parent.
pub fn processes(ebpf: &mut Ebpf) -> Result<Vec<Fork>, ScanError> {
    walk(ebpf, "task")
}

fn walk<T: FromBytes + KnownLayout + Immutable>(
    ebpf: &mut Ebpf,
    program: &'static str,
) -> Result<Vec<T>, ScanError> {
    let fail = |reason: String| ScanError { program, reason };
    let iter: &mut Iter = program_of(ebpf, program).map_err(fail)?;
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
