//! Arbitrary bytes as the BTF of a kernel.

use lastbyte::probe::{Btf, resolve};
use tracer_ebpf::Layout;

/// Heap for each byte of BTF: 12 bytes are a struct at least, which becomes a type of 32 bytes, and an
/// entry of 40 and a list of 16 in tables that grow by doubling.
const HEAP_PER_BYTE: usize = 24;
/// Heap beside it: what says which fields are missing.
const HEAP: usize = 64 << 10;

/// Parses `input` and asks for everything that lastbyte asks for.
pub fn run(input: &[u8]) {
    let ((), peak) = super::measured(|| ask(input));
    super::suffices(HEAP + HEAP_PER_BYTE * input.len(), peak);
}

fn ask(input: &[u8]) {
    let Ok(btf) = Btf::parse(input) else { return };
    for member in Layout::MEMBERS {
        // What is missing is an answer too.
        let _ = btf.size_of(member.of);
        for path in member.paths {
            let _ = btf.offset_of(member.of, path);
        }
    }
    for function in ["pipe_release", "pipe_read", "unix_release_sock"] {
        assert!(btf.has_function(function) || btf.parameters(function).is_none());
    }
    if let Ok((_, missing)) = resolve(&btf) {
        assert!(missing.len() <= Layout::MEMBERS.len());
    }
}
