//! What a VM boots into: a Debian root, made once, and on top our binaries, made each time.
//! The kernel unpacks both and its modules into its initial RAM file system, each over the earlier.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{apt, arch::Arch, build::Binaries, paths, sh};

/// The suite of the root file system; its sshd is 10.0.
const SUITE: &str = "trixie";

const PACKAGES: &[&str] = &[
    // What any other package may take for granted; a root that is only unpacked has it not.
    "?essential",
    "bash",
    "coreutils",
    "dropbear-bin",
    "iproute2",
    "kmod",
    "openssh-client",
    "openssh-server",
    "openssh-sftp-server",
    "procps",
    "rsync",
    "socat",
    "tmux",
    "util-linux",
    "vim-tiny",
    "xauth",
];

/// Where the guest finds our binaries.
pub const GUEST_BIN: &str = "/lastbyte";

const INIT: &str = include_str!("init.sh");

/// Debian's root file system; made the first time, and again when its recipe changes.
pub fn root(arch: Arch) -> Result<PathBuf> {
    let name = format!("root-{}", arch.debian());
    let archive = paths::vm().join(format!("{name}.cpio"));
    let recipe_file = paths::vm().join(format!("{name}.recipe"));
    let variant = variant(arch);
    let recipe = format!("{SUITE} {variant} {}\n", PACKAGES.join(","));
    let is_fresh = fs::read_to_string(&recipe_file).is_ok_and(|found| found == recipe);
    if is_fresh && archive.is_file() {
        return Ok(archive);
    }

    println!(
        "vm: making a Debian {SUITE} root file system for {}",
        arch.debian()
    );
    let tar = paths::vm().join(format!("{name}.tar"));
    sh::quietly(
        sh::cmd("mmdebstrap")
            .arg(format!("--variant={variant}"))
            .arg(format!("--architectures={}", arch.debian()))
            .args(
                PACKAGES
                    .iter()
                    .map(|package| format!("--include={package}")),
            )
            .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
            .arg(SUITE)
            .arg(&tar)
            .arg(apt::mirror()),
    )
    .context("cannot make the root file system")?;
    // Straight from tar to cpio: owners and device nodes survive without being root here.
    let from_tar = format!("@{}", tar.display());
    sh::run(
        sh::cmd("bsdtar")
            .args(["--format=newc", "-cf"])
            .arg(&archive)
            .arg(from_tar),
    )
    .context("cannot turn the root file system into an initramfs")?;
    fs::remove_file(&tar).with_context(|| format!("cannot remove {}", tar.display()))?;
    fs::write(&recipe_file, recipe)
        .with_context(|| format!("cannot write {}", recipe_file.display()))?;
    Ok(archive)
}

/// How mmdebstrap makes the root. A foreign processor's programs do not run here, so the packages
/// are unpacked only, and init does what their scripts would have done.
fn variant(arch: Arch) -> &'static str {
    if arch.is_native() {
        "minbase"
    } else {
        "extract"
    }
}

/// The initramfs of one VM: the archives `below`, our files on top; runs `script` in bash. Made in
/// `folder`.
pub fn initramfs(
    below: &[&Path],
    folder: &Path,
    binaries: Option<&Binaries>,
    script: &str,
) -> Result<PathBuf> {
    let overlay = overlay(folder, binaries, script)
        .with_context(|| format!("cannot prepare the VM's files in {}", folder.display()))?;
    let path = folder.join("initramfs");
    let parts = below.iter().copied().chain([overlay.as_path()]);
    join(&path, parts).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn overlay(folder: &Path, binaries: Option<&Binaries>, script: &str) -> Result<PathBuf> {
    let stage = folder.join("overlay");
    if stage.exists() {
        fs::remove_dir_all(&stage)?;
    }
    let bin = stage.join(GUEST_BIN.trim_start_matches('/'));
    fs::create_dir_all(&bin)?;
    fs::write(stage.join("init"), INIT)?;
    fs::set_permissions(stage.join("init"), fs::Permissions::from_mode(0o755))?;
    fs::write(bin.join("script"), script)?;
    if let Some(binaries) = binaries {
        for binary in binaries.all() {
            fs::copy(binary, bin.join(binary.file_name().unwrap_or_default()))?;
        }
    }
    let archive = folder.join("overlay.cpio");
    sh::run(
        sh::cmd("bsdtar")
            .args(["--format=newc", "--uid=0", "--gid=0", "-cf"])
            .arg(&archive)
            .arg("-C")
            .arg(&stage)
            .arg("."),
    )?;
    Ok(archive)
}

fn join<'a>(whole: &Path, parts: impl Iterator<Item = &'a Path>) -> io::Result<()> {
    let mut out = File::create(whole)?;
    for part in parts {
        io::copy(&mut File::open(part)?, &mut out)?;
    }
    Ok(())
}
