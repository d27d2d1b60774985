//! bpf-linker, made against the LLVM of the toolchain in use: rustc hands it bitcode, which an
//! LLVM of another version may not read.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use anyhow::{Context as _, Result, bail};

use super::rust;
use crate::{paths, sh};

const VERSION: &str = "0.13.0";

pub fn install() -> Result<()> {
    let rustc = sh::output(sh::cmd("rustc").arg("-vV")).context("cannot ask rustc for its LLVM")?;
    let made_for = format!("bpf-linker {VERSION}\n{rustc}");
    if is_present(&made_for) {
        return Ok(());
    }

    let llvm = llvm_major(&rustc)?;
    println!("setup: building bpf-linker {VERSION} for LLVM {llvm} (about a minute)");
    let prefix = llvm_prefix()?;
    let lib = rust::sysroot()?.join("lib");
    let rpath = format!("-C link-arg=-Wl,-rpath,{}", lib.display());
    sh::run(
        sh::cargo()
            .args([
                "install",
                "bpf-linker",
                "--version",
                VERSION,
                "--locked",
                "--force",
            ])
            .args(["--no-default-features", "--features"])
            .arg(format!("llvm-{llvm}"))
            .arg("--root")
            .arg(paths::tools())
            .env("LLVM_PREFIX", prefix)
            .env("RUSTFLAGS", rpath)
            .env_remove("CARGO_TARGET_DIR"),
    )
    .context("cannot build bpf-linker")?;

    if !runs() {
        bail!(
            "{} was built but does not run: see `ldd {0}`",
            paths::tool("bpf-linker").display()
        );
    }
    let stamp = stamp();
    fs::write(&stamp, made_for).with_context(|| format!("cannot write {}", stamp.display()))
}

fn is_present(made_for: &str) -> bool {
    fs::read_to_string(stamp()).is_ok_and(|found| found == made_for) && runs()
}

fn runs() -> bool {
    sh::output(sh::cmd(paths::tool("bpf-linker")).arg("--version")).is_ok()
}

/// Says which rustc the installed bpf-linker was made for.
fn stamp() -> PathBuf {
    paths::tools().join("bpf-linker.made-for")
}

/// `LLVM version: 22.1.2` -> `22`
fn llvm_major(rustc: &str) -> Result<&str> {
    rustc
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))
        .and_then(|version| version.split('.').next())
        .with_context(|| format!("`rustc -vV` names no LLVM version:\n{rustc}"))
}

/// An LLVM installation as bpf-linker's build looks for it: a folder with `lib/libLLVM.so`.
fn llvm_prefix() -> Result<PathBuf> {
    let lib = rust::sysroot()?.join("lib");
    let entries = fs::read_dir(&lib).with_context(|| format!("cannot list {}", lib.display()))?;
    let shared = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("libLLVM.so.")
        })
        .with_context(|| {
            format!(
                "no libLLVM.so.* in {}: this toolchain links LLVM statically; use the one that \
                 rust-toolchain.toml pins, from rustup",
                lib.display()
            )
        })?;

    let prefix = paths::tools().join("llvm");
    let link = prefix.join("lib/libLLVM.so");
    fs::create_dir_all(prefix.join("lib"))
        .with_context(|| format!("cannot create {}", prefix.display()))?;
    if link.is_symlink() {
        fs::remove_file(&link).with_context(|| format!("cannot replace {}", link.display()))?;
    }
    symlink(&shared, &link)
        .with_context(|| format!("cannot link {} to {}", link.display(), shared.display()))?;
    Ok(prefix)
}

#[cfg(test)]
mod tests {
    use super::llvm_major;

    #[test]
    fn the_llvm_feature_comes_from_rustc() {
        let rustc = "rustc 1.95.0\nrelease: 1.95.0\nLLVM version: 22.1.2\n";
        assert_eq!(llvm_major(rustc).ok(), Some("22"));
        assert!(llvm_major("rustc 1.95.0\n").is_err());
    }
}
