//! C code in the static binaries: SQLite, zstd and ring compile some. Debian has musl-gcc for the
//! machine's own processor, but no cross compiler for musl: for another, gcc's cross compiler is
//! given the headers of that processor's musl. The objects of musl itself come with Rust.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{apt::Apt, arch::Arch, paths, sh};

/// Its musl is the one that Rust 1.95 links, 1.2.5.
const SUITE: &str = "trixie";

/// Fetches what [`environment`] refers to and no package of this machine's Debian has.
pub fn install(arch: Arch) -> Result<()> {
    let home = home(arch);
    if arch.is_native() || headers(arch).join("stdio.h").is_file() {
        return Ok(());
    }
    println!("setup: fetching musl's headers for {}", arch.name());
    let unpacked = home.with_extension("unpacked");
    if unpacked.exists() {
        fs::remove_dir_all(&unpacked)
            .with_context(|| format!("cannot empty {}", unpacked.display()))?;
    }
    Apt::for_suite(SUITE, arch)?.extract("musl-dev", &unpacked)?;
    // All or nothing: a header is looked for above.
    fs::rename(&unpacked, &home).with_context(|| format!("cannot create {}", home.display()))
}

/// What the build scripts of C code (crate cc) and rustc must be told to make static binaries.
pub fn environment(arch: Arch) -> Result<Vec<(String, OsString)>> {
    let target = arch.static_target().replace('-', "_");
    if arch.is_native() {
        return Ok(vec![(format!("CC_{target}"), "musl-gcc".into())]);
    }
    let gcc = tool(arch, "gcc");
    let own = sh::output(sh::cmd(&gcc).arg("--print-file-name=include"))
        .with_context(|| format!("cannot ask {gcc} where its headers are"))?;
    Ok(vec![
        (format!("CC_{target}"), gcc.clone().into()),
        (format!("AR_{target}"), tool(arch, "ar").into()),
        (
            format!("CFLAGS_{target}"),
            flags(&headers(arch), own.trim_end()),
        ),
        (
            format!("CARGO_TARGET_{}_LINKER", target.to_uppercase()),
            gcc.into(),
        ),
    ])
}

/// musl's headers and the compiler's own (stddef.h, arm_neon.h), as musl-gcc has it: glibc's must
/// not be found.
fn flags(musl: &Path, compiler: &str) -> OsString {
    let mut flags = OsString::from("-nostdinc -isystem ");
    flags.push(musl);
    flags.push(" -isystem ");
    flags.push(compiler);
    flags
}

fn tool(arch: Arch, name: &str) -> String {
    format!("{}-linux-gnu-{name}", arch.name())
}

fn headers(arch: Arch) -> PathBuf {
    let name = format!("usr/include/{}-linux-musl", arch.name());
    home(arch).join(name)
}

fn home(arch: Arch) -> PathBuf {
    paths::tools().join(format!("musl-{}", arch.debian()))
}
