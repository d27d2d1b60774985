//! Removes an entry of a hash table and returns its value in one step. aya has no call for it.

use std::{io, mem::MaybeUninit, os::fd::AsFd, os::fd::AsRawFd as _};

use aya::Pod;

/// `BPF_MAP_LOOKUP_AND_DELETE_ELEM` of include/uapi/linux/bpf.h.
const LOOKUP_AND_DELETE: libc::c_long = 21;

/// The part of `union bpf_attr` for operations on an entry (include/uapi/linux/bpf.h).
#[repr(C)]
struct Element {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Removes an entry and returns its value; `None` when there is no such entry.
///
/// # Errors
/// `ENOTSUPP` (524) before Linux 5.14 (`map_lookup_and_delete_elem`, kernel/bpf/syscall.c).
pub fn lookup_and_delete<K: Pod, V: Pod>(table: impl AsFd, key: &K) -> io::Result<Option<V>> {
    let mut value = MaybeUninit::<V>::uninit();
    let attr = Element {
        map_fd: table.as_fd().as_raw_fd() as u32,
        pad: 0,
        key: std::ptr::from_ref(key) as u64,
        value: value.as_mut_ptr() as u64,
        flags: 0,
    };
    // SAFETY: the kernel reads the struct and the key, and writes a value of the table's size, which aya
    // has checked to be V's.
    let done = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            LOOKUP_AND_DELETE,
            &raw const attr,
            size_of::<Element>(),
        )
    };
    if done == 0 {
        // SAFETY: written by the kernel, and any bytes are a V.
        return Ok(Some(unsafe { value.assume_init() }));
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        error => Err(error),
    }
}
