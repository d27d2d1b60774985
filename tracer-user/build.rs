//! Builds the eBPF object that is embedded in the binary.
//!
//! Stable rustc with `RUSTC_BOOTSTRAP`, as the Linux kernel builds its Rust, and a bpf-linker made
//! against the same LLVM (`cargo xtask setup` puts it into target/tools).

use std::{env, error::Error, fs, path::PathBuf, process::Command};

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let root = here.parent().ok_or("tracer-user has no parent folder")?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for path in [
        "tracer-ebpf/src",
        "tracer-ebpf/Cargo.toml",
        "Cargo.lock",
        "rust-toolchain.toml",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    println!("cargo::rerun-if-env-changed=BPF_LINKER");

    let linker = env::var_os("BPF_LINKER")
        .map_or_else(|| root.join("target/tools/bin/bpf-linker"), PathBuf::from);
    println!("cargo::rerun-if-changed={}", linker.display());
    if !linker.exists() {
        return Err(format!(
            "no bpf-linker at {}: run `cargo xtask setup` once, or point BPF_LINKER to one",
            linker.display()
        )
        .into());
    }
    let rustflags = [
        format!("-Clinker={}", linker.display()),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
    ];
    let target_dir = out.join("ebpf");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(root)
        .args(["build", "--release", "-Z", "build-std=core"])
        .args(["--target", "bpfel-unknown-none", "--package", "tracer-ebpf"])
        .args(["--features", "ebpf", "--bin", "lastbyte-ebpf"])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags.join("\x1f"))
        .env_remove("RUSTFLAGS");
    // What cargo set for this script is about the host and must not reach the inner build.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_CFG_")
            || name.starts_with("CARGO_FEATURE_")
            || name == "RUSTC_WORKSPACE_WRAPPER"
            || name == "RUSTC_WRAPPER"
            || name == "CARGO_BUILD_TARGET"
        {
            cargo.env_remove(&*name);
        }
    }
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!("building the eBPF object failed ({status})").into());
    }
    let object = target_dir.join("bpfel-unknown-none/release/lastbyte-ebpf");
    fs::copy(&object, out.join("lastbyte.bpf.o"))
        .map_err(|error| format!("{}: {error}", object.display()))?;
    Ok(())
}
