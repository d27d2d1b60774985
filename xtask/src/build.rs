//! `cargo xtask build`. The eBPF object is built by tracer-user's build script.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::{arch::Arch, musl, paths, setup, sh};

#[derive(clap::Args)]
pub struct Args {
    /// Optimised
    #[arg(long)]
    release: bool,
    /// For this target; x86_64-unknown-linux-musl and aarch64-unknown-linux-musl make a static binary
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
}

/// The executables that tests need.
pub struct Binaries {
    pub lastbyte: PathBuf,
    /// The SSH server with the race that OpenSSH once had.
    pub eager: PathBuf,
    /// The runner of the cases.
    pub cases: PathBuf,
    /// What the cases do that no shell can.
    pub fixture: PathBuf,
    /// Runs something under a systemd unit's restrictions; for this machine alone.
    pub confine: PathBuf,
}

impl Binaries {
    /// Those that cargo puts into `folder`.
    fn of(folder: &Path) -> Self {
        Self {
            lastbyte: folder.join("lastbyte"),
            eager: folder.join("eager"),
            cases: folder.join("cases"),
            fixture: folder.join("fixture"),
            confine: folder.join("confine"),
        }
    }

    /// Those that a VM needs.
    pub fn all(&self) -> [&Path; 4] {
        [&self.lastbyte, &self.eager, &self.cases, &self.fixture]
    }
}

pub fn main(args: &Args) -> Result<()> {
    let target = args.target.as_deref();
    let static_for = target.and_then(Arch::of_static_target);
    match static_for {
        Some(arch) => setup::for_static(arch)?,
        None => setup::for_build()?,
    }
    let mut build = sh::cargo();
    build.args(["build", "--package", "tracer-user"]);
    if args.release {
        build.arg("--release");
    }
    if let Some(target) = target {
        build.arg("--target").arg(target);
    }
    if let Some(arch) = static_for {
        build.envs(musl::environment(arch)?);
    }
    sh::run(&mut build).context("cannot build lastbyte")?;

    let profile = if args.release { "release" } else { "debug" };
    let folder = paths::cargo_target()
        .join(target.unwrap_or_default())
        .join(profile);
    println!("built {}", folder.join("lastbyte").display());
    Ok(())
}

/// `lastbyte` alone, optimised.
pub fn release() -> Result<PathBuf> {
    sh::run(sh::cargo().args(["build", "--release", "--package", "tracer-user"]))
        .context("cannot build lastbyte")?;
    Ok(paths::cargo_target().join("release/lastbyte"))
}

/// `lastbyte` and the programs of its tests, optimised.
pub fn with_testkit() -> Result<Binaries> {
    sh::run(sh::cargo().args(["build", "--release"]).args(PACKAGES))
        .context("cannot build lastbyte and its test programs")?;
    Ok(Binaries::of(&paths::cargo_target().join("release")))
}

/// The same, static: they run on any kernel and root file system.
pub fn static_with_testkit(arch: Arch) -> Result<Binaries> {
    let mut build = sh::cargo();
    build
        .args(["build", "--release", "--target", arch.static_target()])
        .args(PACKAGES)
        .envs(musl::environment(arch)?);
    sh::run(&mut build).context("cannot build the static binaries for the VMs")?;
    Ok(static_binaries(arch))
}

/// Where the static binaries are once built.
pub fn static_binaries(arch: Arch) -> Binaries {
    let target = paths::cargo_target().join(arch.static_target());
    Binaries::of(&target.join("release"))
}

const PACKAGES: [&str; 4] = ["--package", "tracer-user", "--package", "lastbyte-testkit"];
