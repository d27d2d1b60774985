//! Tools that cargo builds, into target/tools.

use anyhow::{Context as _, Result};

use crate::{paths, sh};

/// A tool from crates.io.
pub struct Tool {
    name: &'static str,
    version: &'static str,
    /// How long it takes to build.
    takes: &'static str,
}

/// Checks the licences, sources and advisories of the dependencies.
pub const DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
    takes: "a few minutes",
};

/// Builds and runs the fuzz targets.
pub const FUZZ: Tool = Tool {
    name: "cargo-fuzz",
    version: "0.13.2",
    takes: "a minute",
};

impl Tool {
    pub fn install(&self) -> Result<()> {
        let Self {
            name,
            version,
            takes,
        } = self;
        let found = sh::output(sh::cmd(paths::tool(name)).arg("--version"));
        if found.is_ok_and(|line| line.trim_end().ends_with(version)) {
            return Ok(());
        }
        println!("setup: building {name} {version} ({takes})");
        sh::run(
            sh::cargo()
                .args(["install", name, "--version", version, "--locked", "--force"])
                .arg("--root")
                .arg(paths::tools())
                .env_remove("CARGO_TARGET_DIR"),
        )
        .with_context(|| format!("cannot build {name}"))
    }
}
