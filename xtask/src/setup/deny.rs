//! cargo-deny, which checks the licences, sources and advisories of the dependencies.

use anyhow::{Context as _, Result};

use crate::{paths, sh};

const VERSION: &str = "0.20.2";

pub fn install() -> Result<()> {
    let found = sh::output(sh::cmd(paths::tool("cargo-deny")).arg("--version"));
    if found.is_ok_and(|line| line.trim_end().ends_with(VERSION)) {
        return Ok(());
    }
    println!("setup: building cargo-deny {VERSION} (a few minutes)");
    sh::run(
        sh::cargo()
            .args([
                "install",
                "cargo-deny",
                "--version",
                VERSION,
                "--locked",
                "--force",
            ])
            .arg("--root")
            .arg(paths::tools())
            .env_remove("CARGO_TARGET_DIR"),
    )
    .context("cannot build cargo-deny")
}
