//! Where things are. Downloads and tools live under `target/`, outside git.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The root of the repository.
pub fn workspace() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Where cargo puts what it builds.
pub fn cargo_target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => workspace().join(dir),
        None => workspace().join("target"),
    }
}

/// `--root` of the tools that setup installs. tracer-user's build script looks for them here,
/// whatever CARGO_TARGET_DIR says.
pub fn tools() -> PathBuf {
    workspace().join("target/tools")
}

/// An installed tool.
pub fn tool(name: &str) -> PathBuf {
    tools().join("bin").join(name)
}

/// What became of the cases.
pub fn results() -> PathBuf {
    workspace().join("target/results")
}

/// Package lists of the Debian suites that something is fetched from.
pub fn apt() -> PathBuf {
    vm().join("apt")
}

/// The OpenSSH whose regression scripts are run.
pub fn openssh() -> PathBuf {
    workspace().join("target/openssh")
}

/// Kernels, root file systems and logs of the test VMs.
pub fn vm() -> PathBuf {
    workspace().join("target/vm")
}
