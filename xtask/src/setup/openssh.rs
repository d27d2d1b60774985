//! OpenSSH from source, for its regression scripts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{apt::Apt, paths, sh};

/// The suite whose source package is built: its OpenSSH is 9.2.
const SUITE: &str = "bookworm";

/// Builds it the first time; gives its folder.
pub fn build() -> Result<PathBuf> {
    let root = paths::openssh();
    let source = root.join("source");
    let done = root.join(format!("built-{SUITE}"));
    if done.is_file() {
        return Ok(source);
    }
    println!("setup: building OpenSSH of Debian {SUITE} (a few minutes)");
    if source.exists() {
        fs::remove_dir_all(&source)
            .with_context(|| format!("cannot empty {}", source.display()))?;
    }
    let archive = Apt::for_sources(SUITE)?.source("openssh", &root.join("download"))?;
    fs::create_dir_all(&source).with_context(|| format!("cannot create {}", source.display()))?;
    sh::run(
        sh::cmd("tar")
            .arg("xf")
            .arg(&archive)
            .args(["--strip-components=1", "-C"])
            .arg(&source),
    )?;
    compile(&source).context("cannot build OpenSSH")?;
    fs::write(&done, "").with_context(|| format!("cannot write {}", done.display()))?;
    Ok(source)
}

fn compile(source: &Path) -> Result<()> {
    // Never installed: its configuration would only be looked for there.
    let settings = format!("--sysconfdir={}", source.join("etc").display());
    sh::quietly(
        sh::cmd(source.join("configure"))
            .arg(settings)
            .arg("--with-privsep-path=/run/sshd")
            .current_dir(source),
    )?;
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    for target in ["all", "regress-binaries"] {
        sh::quietly(
            sh::cmd("make")
                .arg(format!("-j{jobs}"))
                .arg(target)
                .current_dir(source),
        )?;
    }
    Ok(())
}
