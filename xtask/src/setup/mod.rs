//! `cargo xtask setup`: installs what is missing, says what it does, does nothing twice.

mod debian;
mod linker;
mod openssh;
mod rust;
mod tools;

use std::path::PathBuf;

use anyhow::Result;

use crate::{arch::Arch, musl};

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

/// What a static binary for that processor needs.
pub fn for_static(arch: Arch) -> Result<()> {
    let compiler = match arch {
        _ if arch.is_native() => debian::STATIC,
        Arch::X86_64 => debian::STATIC_X86_64,
        Arch::Aarch64 => debian::STATIC_AARCH64,
    };
    debian::install(&[debian::BUILD, compiler].concat())?;
    rust::add_source()?;
    rust::add_static_target(arch)?;
    linker::install()?;
    musl::install(arch)
}

/// What `cargo xtask test` needs: servers and clients for the cases, QEMU, cargo-deny.
pub fn for_tests() -> Result<()> {
    debian::install(&[debian::CASES, debian::VM, debian::SERVICE, debian::DENY].concat())?;
    for_static(Arch::X86_64)?;
    tools::DENY.install()
}

/// What `cargo xtask cases` needs.
pub fn for_cases() -> Result<()> {
    debian::install(&[debian::BUILD, debian::CASES].concat())?;
    rust::add_source()?;
    linker::install()
}

/// What `cargo xtask regress` needs; gives the folder of an OpenSSH that has been built.
pub fn for_regress() -> Result<PathBuf> {
    debian::install(&[debian::BUILD, debian::CASES, debian::OPENSSH].concat())?;
    rust::add_source()?;
    linker::install()?;
    openssh::build()
}

/// What `cargo xtask vm` needs.
pub fn for_vm(arch: Arch) -> Result<()> {
    let more = match arch {
        Arch::X86_64 => &[],
        Arch::Aarch64 => debian::VM_AARCH64,
    };
    debian::install(&[debian::VM, more].concat())?;
    for_static(arch)
}

/// What `cargo xtask fuzz` needs.
pub fn for_fuzz() -> Result<()> {
    debian::install(&[debian::BUILD, debian::FUZZ].concat())?;
    rust::add_source()?;
    linker::install()?;
    tools::FUZZ.install()
}
