//! Runs the kernel's iterators: which process holds which stream, which processes there are.

use std::io::{self, Read};

use aya::programs::{ProgramError, links::LinkError};
use tracer_ebpf::{Fork, Holder, Socket};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::{kernel_objects::KernelObjects, object::NoProgram};

/// An iterator cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("walking over all processes ({program}): {reason}")]
pub struct ScanError {
    program: &'static str,
    reason: Reason,
}

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error(transparent)]
    NoProgram(#[from] NoProgram),
    #[error(transparent)]
    Attach(#[from] ProgramError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error("the kernel returned part of a record")]
    Partial,
}

/// Every descriptor that is an end of a stream; with
/// [`scan_all`](super::tables::Tables::scan_all), of any pipe, unix stream socket or pty.
pub fn descriptors(objects: &mut KernelObjects) -> Result<Vec<Holder>, ScanError> {
    walk(objects, "task_file")
}

/// Likewise every end that no descriptor shows: in a message that is not received yet, or registered
/// with an io_uring.
pub fn inflight(objects: &mut KernelObjects) -> Result<Vec<Holder>, ScanError> {
    walk(objects, "task_inflight")
}

/// Every TCP socket that may keep a connection open; with
/// [`scan_all`](super::tables::Tables::scan_all), every TCP socket.
pub fn sockets(objects: &mut KernelObjects) -> Result<Vec<Socket>, ScanError> {
    walk(objects, "task_socket")
}

/// Every process, as if its parent had just forked it.
pub fn processes(objects: &mut KernelObjects) -> Result<Vec<Fork>, ScanError> {
    walk(objects, "task")
}

fn walk<T: FromBytes + KnownLayout + Immutable>(
    objects: &mut KernelObjects,
    program: &'static str,
) -> Result<Vec<T>, ScanError> {
    read_all(objects, program).map_err(|reason| ScanError { program, reason })
}

fn read_all<T: FromBytes + KnownLayout + Immutable>(
    objects: &mut KernelObjects,
    program: &'static str,
) -> Result<Vec<T>, Reason> {
    let iter = objects.iterator(program)?;
    let link = iter.attach()?;
    let mut file = iter.take_link(link)?.into_file()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let records = bytes.chunks_exact(size_of::<T>());
    if !records.remainder().is_empty() {
        return Err(Reason::Partial);
    }
    Ok(records
        .filter_map(|record| T::read_from_bytes(record).ok())
        .collect())
}
