//! The backends: how stream operations can be observed.

use std::fmt;

use tracer_ebpf::backend;

/// How the programs observe stream operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    /// fentry and fexit on kernel functions: exact and cheapest.
    Fentry,
    /// kprobes and kretprobes on the same functions: for kernels without fentry.
    Kprobe,
    /// Entry and exit of system calls: for kernels that allow neither.
    Syscall,
}

impl Backend {
    /// All backends, the best first.
    pub const ALL: [Self; 3] = [Self::Fentry, Self::Kprobe, Self::Syscall];

    /// Its number in the ABI.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Fentry => backend::FENTRY,
            Self::Kprobe => backend::KPROBE,
            Self::Syscall => backend::SYSCALL,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Syscall => "syscall",
        })
    }
}
