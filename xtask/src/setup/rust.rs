//! The pinned toolchain's parts. Looked for in its sysroot, so that a distribution's Rust will do
//! as well; only what is missing needs rustup.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::{arch::Arch, sh};

/// The standard library's source: `core` is built for the BPF target from it.
pub fn add_source() -> Result<()> {
    let present = rustlib()?
        .join("src/rust/library/core/Cargo.toml")
        .is_file();
    if !present {
        rustup("rust-src", &["component", "add", "rust-src"])?;
    }
    Ok(())
}

/// The musl standard library.
pub fn add_static_target(arch: Arch) -> Result<()> {
    let target = arch.static_target();
    if !rustlib()?.join(target).join("lib").is_dir() {
        rustup(target, &["target", "add", target])?;
    }
    Ok(())
}

/// Where the toolchain's own libraries are.
pub fn sysroot() -> Result<PathBuf> {
    let path = sh::output(sh::cmd("rustc").args(["--print", "sysroot"]))
        .context("cannot find the Rust toolchain")?;
    Ok(PathBuf::from(path.trim_end()))
}

fn rustlib() -> Result<PathBuf> {
    Ok(sysroot()?.join("lib/rustlib"))
}

fn rustup(part: &str, args: &[&str]) -> Result<()> {
    if sh::which("rustup").is_none() {
        bail!(
            "the Rust toolchain lacks {part} and there is no rustup to add it: install rustup \
             (https://rustup.rs), or your distribution's package of {part} for this very rustc"
        );
    }
    println!("setup: adding {part} to the Rust toolchain");
    sh::run(sh::cmd("rustup").args(args)).with_context(|| format!("cannot add {part}"))
}
