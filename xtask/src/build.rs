//! `cargo xtask build`. The eBPF object is built by tracer-user's build script.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::{
    paths,
    setup::{self, STATIC_TARGET},
    sh,
};

#[derive(clap::Args)]
pub struct Args {
    /// Optimised
    #[arg(long)]
    release: bool,
    /// For this target, such as x86_64-unknown-linux-musl for a static binary
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
}

impl Binaries {
    /// Those that cargo puts into `folder`.
    fn of(folder: &Path) -> Self {
        Self {
            lastbyte: folder.join("lastbyte"),
            eager: folder.join("eager"),
            cases: folder.join("cases"),
        }
    }
}

pub fn main(args: &Args) -> Result<()> {
    setup::for_build()?;
    let mut build = sh::cargo();
    build.args(["build", "--package", "tracer-user"]);
    if args.release {
        build.arg("--release");
    }
    if let Some(target) = &args.target {
        build.arg("--target").arg(target);
    }
    sh::run(&mut build).context("cannot build lastbyte")?;

    let profile = if args.release { "release" } else { "debug" };
    let folder = paths::cargo_target()
        .join(args.target.as_deref().unwrap_or_default())
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
pub fn static_with_testkit() -> Result<Binaries> {
    sh::run(
        sh::cargo()
            .args(["build", "--release", "--target", STATIC_TARGET])
            .args(PACKAGES),
    )
    .context("cannot build the static binaries for the VMs")?;
    Ok(static_binaries())
}

/// Where the static binaries are once built.
pub fn static_binaries() -> Binaries {
    Binaries::of(&paths::cargo_target().join(STATIC_TARGET).join("release"))
}

const PACKAGES: [&str; 4] = ["--package", "tracer-user", "--package", "lastbyte-testkit"];
