//! `cargo xtask vm`: the cases on real kernels, in QEMU, without KVM.

mod apt;
mod boot;
mod image;
mod kernel;
mod log;
mod matrix;
mod slot;

use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::setup;
use kernel::Kernel;

/// Whether this machine's binaries run in the VMs, which are all of one architecture.
pub const SUPPORTED: bool = cfg!(target_arch = "x86_64");

#[derive(clap::Args)]
pub struct Args {
    /// Which kernel; may be repeated
    #[arg(long, value_name = "VERSION|all", default_value = "6.12")]
    kernel: Vec<String>,
    /// How stream operations are observed; all unless given
    #[arg(long)]
    backend: Vec<Backend>,
    /// Run this shell command inside instead of the cases
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["backend", "cases"])]
    shell_cmd: Option<String>,
    /// Give up on a VM after this time
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    timeout: u64,
    /// Only these cases
    #[arg(value_name = "CASE")]
    cases: Vec<String>,
}

/// lastbyte's backends that VMs are tested with.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    Fentry,
    Kprobe,
    Syscall,
}

impl Backend {
    const ALL: [Self; 3] = [Self::Fentry, Self::Kprobe, Self::Syscall];

    /// As lastbyte's `--backend` spells it.
    fn name(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Syscall => "syscall",
        }
    }
}

pub fn main(args: &Args) -> Result<()> {
    if !SUPPORTED {
        bail!("the VMs are x86_64 only: they run this machine's static binaries under QEMU");
    }
    let kernels = chosen(&args.kernel)?;
    setup::for_vm()?;
    let timeout = Duration::from_secs(args.timeout);
    if let Some(command) = &args.shell_cmd {
        return matrix::shell(&kernels, command, timeout);
    }
    let backends = if args.backend.is_empty() {
        Backend::ALL.to_vec()
    } else {
        args.backend.clone()
    };
    matrix::cases(&kernels, &backends, &args.cases, timeout)
}

/// The cases on every kernel, as `cargo xtask test` wants them: with fentry, which this machine's
/// own kernel may not permit. The syscall backend is tried by the cases on this machine.
pub fn every_kernel() -> Result<()> {
    main(&Args {
        kernel: vec!["all".into()],
        backend: vec![Backend::Fentry],
        shell_cmd: None,
        timeout: 900,
        cases: Vec::new(),
    })
}

fn chosen(names: &[String]) -> Result<Vec<&'static Kernel>> {
    let mut kernels = Vec::new();
    for name in names {
        match name.as_str() {
            "all" => kernels.extend(kernel::ALL),
            _ => kernels.push(kernel::find(name)?),
        }
    }
    Ok(kernels)
}
