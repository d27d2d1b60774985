//! Debian packages.

use anyhow::{Context as _, Result};

use crate::sh;

/// To compile and link.
pub const BUILD: &[&str] = &["gcc", "libc6-dev"];

/// Servers, clients and helpers that the cases start.
pub const CASES: &[&str] = &[
    "dropbear-bin",
    "git",
    "iproute2",
    "openssh-client",
    "openssh-server",
    "openssh-sftp-server",
    "procps",
    "rsync",
    "tmux",
    "vim-tiny",
    "xauth",
];

/// To compile the C parts of static binaries for the machine's own processor.
pub const STATIC: &[&str] = &["musl-tools"];

/// The same for x86_64 on another machine; the libc6-dev has what gcc links any program with.
pub const STATIC_X86_64: &[&str] = &[
    "debian-archive-keyring",
    "gcc-x86-64-linux-gnu",
    "libc6-dev-amd64-cross",
];

/// The same for aarch64 on another machine.
pub const STATIC_AARCH64: &[&str] = &[
    "debian-archive-keyring",
    "gcc-aarch64-linux-gnu",
    "libc6-dev-arm64-cross",
];

/// To make and boot the VMs; depmod of kmod says which kernel module needs which.
pub const VM: &[&str] = &[
    "debian-archive-keyring",
    "kmod",
    "libarchive-tools",
    "mmdebstrap",
    "qemu-system-x86",
];

/// On top of [`VM`], for VMs with an aarch64 processor.
pub const VM_AARCH64: &[&str] = &["qemu-system-arm"];

/// To judge the unit of the service, and to know systemd's sets of system calls.
pub const SERVICE: &[&str] = &["systemd"];

/// To build OpenSSH for its regression scripts.
pub const OPENSSH: &[&str] = &["debian-archive-keyring", "libssl-dev", "make", "zlib1g-dev"];

/// cargo-deny fetches the advisory database with it.
pub const DENY: &[&str] = &["git"];

/// libFuzzer is C++.
pub const FUZZ: &[&str] = &["g++"];

/// Installs those of `wanted` that are missing.
pub fn install(wanted: &[&str]) -> Result<()> {
    if sh::which("dpkg-query").is_none() || sh::which("apt-get").is_none() {
        println!(
            "setup: not a Debian system, so nothing is installed; these are needed, under \
             Debian's names: {}",
            wanted.join(" ")
        );
        return Ok(());
    }
    let missing: Vec<&str> = wanted
        .iter()
        .copied()
        .filter(|package| !is_installed(package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }

    println!("setup: installing Debian packages: {}", missing.join(" "));
    apt(&["update", "--quiet"]).context("cannot refresh apt's package lists")?;
    let mut install = vec!["install", "--quiet", "--yes", "--no-install-recommends"];
    install.extend(&missing);
    apt(&install).with_context(|| format!("cannot install {}", missing.join(" ")))
}

fn is_installed(package: &str) -> bool {
    sh::output(sh::cmd("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}

fn apt(args: &[&str]) -> Result<()> {
    // `env`, because sudo may be told to reset the environment.
    sh::quietly(
        sh::root_cmd("env")?
            .args(["DEBIAN_FRONTEND=noninteractive", "apt-get"])
            .args(["-o", "DPkg::Lock::Timeout=300"])
            .args(args),
    )
}
