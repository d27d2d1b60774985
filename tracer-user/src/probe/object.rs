//! The object file with the eBPF programs, and access to its programs by name.

use aya::{
    Ebpf,
    programs::{Program, ProgramError},
};

/// The object file, which the build script makes from `tracer-ebpf`.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lastbyte.bpf.o"));

/// Why a program of the object cannot be used. The object and this code come from one build, so
/// either is a bug.
#[derive(Debug, thiserror::Error)]
pub enum NoProgram {
    /// The object has no program of this name.
    #[error("the object has no program {0}")]
    Unknown(String),
    /// The program is of another kind than expected.
    #[error("{0}: {1}")]
    Kind(String, ProgramError),
}

/// A program of the loaded object, by its name and kind.
pub fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, NoProgram>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| NoProgram::Unknown(name.to_owned()))?;
    program
        .try_into()
        .map_err(|error| NoProgram::Kind(name.to_owned(), error))
}
