//! `cargo xtask setup`: installs what is missing, says what it does, does nothing twice.

mod debian;
mod linker;
mod rust;
mod tools;

use anyhow::Result;

use crate::arch::Arch;

#[derive(clap::Args)]
pub struct Args {
    /// Also install what `cargo xtask test` and `cargo xtask vm` need
    #[arg(long)]
    tests: bool,
}

pub fn main(args: &Args) -> Result<()> {
    if args.tests {
        for_tests()?;
    } else {
        for_build()?;
    }
    println!("setup: ready");
    Ok(())
}

/// What `cargo xtask build` needs.
pub fn for_build() -> Result<()> {
    debian::install(debian::BUILD)?;
    rust::add_source()?;
    linker::install()
}

/// What `cargo xtask test` needs: servers and clients for the cases, QEMU, cargo-deny.
pub fn for_tests() -> Result<()> {
    debian::install(&[debian::BUILD, debian::CASES, debian::VM, debian::DENY].concat())?;
    rust::add_source()?;
    rust::add_static_target(Arch::X86_64)?;
    linker::install()?;
    tools::DENY.install()
}

/// What `cargo xtask cases` needs.
pub fn for_cases() -> Result<()> {
    debian::install(&[debian::BUILD, debian::CASES].concat())?;
    rust::add_source()?;
    linker::install()
}

/// What `cargo xtask vm` needs.
pub fn for_vm(arch: Arch) -> Result<()> {
    let more = match arch {
        Arch::X86_64 => &[],
        Arch::Aarch64 => debian::VM_AARCH64,
    };
    debian::install(&[debian::BUILD, debian::VM, more].concat())?;
    rust::add_source()?;
    rust::add_static_target(arch)?;
    linker::install()
}

/// What `cargo xtask fuzz` needs.
pub fn for_fuzz() -> Result<()> {
    debian::install(&[debian::BUILD, debian::FUZZ].concat())?;
    rust::add_source()?;
    linker::install()?;
    tools::FUZZ.install()
}
