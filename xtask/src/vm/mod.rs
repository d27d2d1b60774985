//! `cargo xtask vm`: the cases on real kernels, in QEMU, without KVM.

mod boot;
mod image;
mod kernel;
mod log;
mod matrix;
mod modules;
mod slot;
mod table;

use std::{num::NonZero, time::Duration};

use anyhow::Result;
use clap::ValueEnum;

use crate::{arch::Arch, setup};
use kernel::Kernel;
use matrix::{Cell, Work};

/// Whether this machine makes VMs: their file systems are made of its own binaries.
pub const SUPPORTED: bool = cfg!(target_arch = "x86_64");

#[derive(clap::Args)]
pub struct Args {
    /// Which kernels
    #[arg(
        long,
        value_name = "VERSION|all",
        value_delimiter = ',',
        default_value = "6.12"
    )]
    kernel: Vec<String>,
    /// How stream operations are observed; every way unless given
    #[arg(long, value_delimiter = ',')]
    backend: Vec<Backend>,
    /// Which cases; all of them with the best backend and chosen ones with the others unless given
    #[arg(long, conflicts_with = "cases")]
    tier: Option<Tier>,
    /// Run the cases this many times
    #[arg(long, value_name = "TIMES", default_value_t = 1)]
    repeat: u32,
    /// Run this many sessions drawn at random instead of the cases
    #[arg(long, value_name = "SESSIONS", conflicts_with_all = ["tier", "cases"])]
    random: Option<u32>,
    /// Determines the random sessions; printed, and made from the clock without this
    #[arg(long, requires = "random")]
    seed: Option<u64>,
    /// Random sessions under way at the same time
    #[arg(long, requires = "random", default_value_t = 4)]
    jobs: u32,
    /// The processor
    #[arg(long, default_value = "x86_64")]
    arch: Arch,
    /// How many VMs run at the same time
    #[arg(long, value_name = "N", default_value = "1")]
    at_once: NonZero<usize>,
    /// Run this shell command inside instead of the cases
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["backend", "tier", "random", "cases"])]
    shell_cmd: Option<String>,
    /// Give up on a VM after this time; half an hour, and 5 s more for each random session, unless
    /// given
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Only these cases, whatever their tier
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

/// The runner's sets of cases, each within the next.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tier {
    Core,
    Chosen,
    Full,
}

impl Tier {
    /// As the runner's `--tier` spells it.
    fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Chosen => "chosen",
            Self::Full => "full",
        }
    }

    /// What the whole matrix runs.
    fn of(arch: Arch, backend: Backend) -> Self {
        match (arch, backend) {
            // Every instruction of it is emulated by several.
            (Arch::Aarch64, _) => Self::Core,
            (_, Backend::Fentry) => Self::Full,
            (_, Backend::Kprobe | Backend::Syscall) => Self::Chosen,
        }
    }
}

pub fn main(args: &Args) -> Result<()> {
    let kernels = chosen(&args.kernel)?;
    setup::for_vm(args.arch)?;
    let timeout = match args.timeout {
        Some(seconds) => Duration::from_secs(seconds),
        None => CASES_TIMEOUT * args.repeat + RANDOM_TIMEOUT * args.random.unwrap_or(0),
    };
    if let Some(command) = &args.shell_cmd {
        return matrix::shell(args.arch, &kernels, command, timeout);
    }
    let backends = match args.backend[..] {
        [] => &Backend::ALL,
        _ => &args.backend[..],
    };
    let cell = |kernel, backend| Cell {
        arch: args.arch,
        kernel,
        backend,
        tier: args.tier.unwrap_or_else(|| Tier::of(args.arch, backend)),
        part: WHOLE,
    };
    let cells: Vec<Cell> = kernels
        .iter()
        .flat_map(|&kernel| backends.iter().map(move |&backend| cell(kernel, backend)))
        .collect();
    let work = match args.random {
        Some(sessions) => Work::Random {
            sessions,
            seed: args.seed,
            jobs: args.jobs,
        },
        None => Work::Cases {
            only: &args.cases,
            repeat: args.repeat,
        },
    };
    matrix::run(&cells, work, args.at_once, timeout)
}

/// How long all cases may take.
const CASES_TIMEOUT: Duration = Duration::from_secs(1800);

/// How long a random session may take; a tenth is usual.
const RANDOM_TIMEOUT: Duration = Duration::from_secs(5);

/// The only part.
const WHOLE: (u32, u32) = (1, 1);

/// What `cargo xtask test` runs of the matrix, in the time that CI has: a third of the cases on one
/// kernel, and on each other those that carry most; all of them with the `syscall` backend run on this
/// machine's own kernel. `cargo xtask vm --kernel all` runs everything.
pub fn in_short() -> Result<()> {
    let newest_stable = kernel::find("6.12")?;
    let cell = |kernel, backend, tier, part| Cell {
        arch: Arch::X86_64,
        kernel,
        backend,
        tier,
        part,
    };
    // Most of a case's time is waiting.
    let at_once = NonZero::new(2).expect("two");
    let mut cells = vec![
        cell(newest_stable, Backend::Fentry, Tier::Chosen, (1, 2)),
        cell(newest_stable, Backend::Fentry, Tier::Chosen, (2, 2)),
        cell(newest_stable, Backend::Kprobe, Tier::Core, WHOLE),
    ];
    for kernel in kernel::ALL {
        if kernel.version != newest_stable.version {
            cells.push(cell(kernel, Backend::Fentry, Tier::Core, WHOLE));
        }
    }
    let everything = Work::Cases {
        only: &[],
        repeat: 1,
    };
    matrix::run(&cells, everything, at_once, CASES_TIMEOUT)
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
