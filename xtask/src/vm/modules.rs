//! A kernel's modules as an initramfs: those that a case may have loaded, and no more, since the
//! emulated processor unpacks all of it at every boot.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::kernel;
use crate::sh;

/// Folders under `kernel/` of a module tree, with all in them: network stack and packet filters,
/// and what they are built on.
const FOLDERS: &[&str] = &["arch", "crypto", "lib", "net"];

/// Of network devices only those that need no hardware: veth, dummy, ifb, tun, …
const DEVICES: &str = "drivers/net";

/// Packs the modules of the unpacked packages.
pub fn pack(unpacked: &Path, archive: &Path) -> Result<()> {
    let tree = tree_in(unpacked).context("the kernel's packages hold no modules")?;
    let release = tree.file_name().unwrap_or_default();
    // /lib is a link to /usr/lib in the root that this is unpacked over.
    let packing = unpacked.join("packing");
    let to = packing.join("usr/lib/modules").join(release);
    let chosen = FOLDERS
        .iter()
        .map(|folder| PathBuf::from("kernel").join(folder));
    for folder in chosen.filter(|folder| tree.join(folder).is_dir()) {
        link_all(&tree.join(&folder), &to.join(&folder))?;
    }
    let devices = PathBuf::from("kernel").join(DEVICES);
    link_files(&tree.join(&devices), &to.join(&devices))?;

    sh::quietly(
        sh::cmd("depmod")
            .arg("--basedir")
            .arg(packing.join("usr"))
            .arg(release),
    )
    .context("cannot tell which kernel module needs which")?;
    sh::run(
        sh::cmd("bsdtar")
            .args(["--format=newc", "--uid=0", "--gid=0", "-cf"])
            .arg(archive)
            .arg("-C")
            .arg(&packing)
            .arg("."),
    )
    .context("cannot pack the kernel's modules")
}

/// `lib/modules/RELEASE`, or from 7.x `usr/lib/modules/RELEASE`.
fn tree_in(unpacked: &Path) -> Option<PathBuf> {
    ["lib/modules", "usr/lib/modules"]
        .iter()
        .flat_map(|folder| kernel::files(&unpacked.join(folder)))
        .find(|release| release.join("kernel").is_dir())
}

fn link_all(from: &Path, to: &Path) -> Result<()> {
    link_files(from, to)?;
    for path in kernel::files(from).iter().filter(|path| path.is_dir()) {
        link_all(path, &to.join(path.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

fn link_files(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for path in kernel::files(from).iter().filter(|path| path.is_file()) {
        let link = to.join(path.file_name().unwrap_or_default());
        fs::hard_link(path, &link).with_context(|| format!("cannot create {}", link.display()))?;
    }
    Ok(())
}
