//! `cargo xtask`: everything that a developer or CI does with this repository, in one place.

mod apt;
mod arch;
mod build;
mod cases;
mod fuzz;
mod musl;
mod paths;
mod regress;
mod results;
mod run;
mod screenshot;
mod setup;
mod sh;
mod support;
mod test;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Sets up, builds, runs and tests lastbyte"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building needs (and with --tests, what testing needs)
    Setup(setup::Args),
    /// Build lastbyte, its eBPF object included
    Build(build::Args),
    /// Build lastbyte and run it as root: `cargo xtask run -- watch`
    Run(run::Args),
    /// Run all checks: format, lints, docs, unit tests, licences, the cases here and in VMs
    Test(test::Args),
    /// Run the cases on this machine's kernel, as root
    Cases(cases::Args),
    /// Run OpenSSH's own regression scripts under the tracer, as root
    Regress(regress::Args),
    /// Run the cases on Debian's kernels in QEMU
    Vm(vm::Args),
    /// Update the tables of support in the README from the last results
    Support(support::Args),
    /// Run each fuzz target for some time
    Fuzz(fuzz::Args),
    /// Make the README's pictures of the terminal UI
    Screenshot(screenshot::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Setup(args) => setup::main(&args),
        Task::Build(args) => build::main(&args),
        Task::Run(args) => run::main(&args),
        // Its last line is its summary, whatever the outcome.
        Task::Test(args) => return test::main(&args),
        Task::Cases(args) => cases::main(&args),
        Task::Regress(args) => regress::main(&args),
        Task::Vm(args) => vm::main(&args),
        Task::Support(args) => support::main(&args),
        Task::Fuzz(args) => fuzz::main(&args),
        Task::Screenshot(args) => screenshot::main(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
