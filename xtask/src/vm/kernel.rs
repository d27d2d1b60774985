//! Debian's cloud kernels: small, modular, with BTF, and on every Debian cloud server.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::apt::Apt;
use crate::{paths, sh};

/// A kernel series to test on.
pub struct Kernel {
    /// Major and minor version.
    pub version: &'static str,
    /// The Debian suite that carries it.
    suite: &'static str,
}

pub const ALL: &[Kernel] = &[
    Kernel {
        version: "5.10",
        suite: "bullseye",
    },
    Kernel {
        version: "6.1",
        suite: "bookworm",
    },
    Kernel {
        version: "6.12",
        suite: "trixie",
    },
    Kernel {
        version: "7.2",
        suite: "sid",
    },
];

/// The kernel of that version.
pub fn find(version: &str) -> Result<&'static Kernel> {
    match ALL.iter().find(|kernel| kernel.version == version) {
        Some(kernel) => Ok(kernel),
        None => {
            let known: Vec<_> = ALL.iter().map(|kernel| kernel.version).collect();
            bail!("no kernel {version}: choose of {} or all", known.join(", "))
        }
    }
}

impl Kernel {
    /// The kernel's image; downloaded the first time.
    pub fn image(&self) -> Result<PathBuf> {
        let home = paths::vm().join("kernels").join(self.version);
        let image = home.join("vmlinuz");
        if image.is_file() {
            return Ok(image);
        }
        self.fetch(&image).with_context(|| {
            format!(
                "cannot get kernel {} from Debian {}",
                self.version, self.suite
            )
        })?;
        Ok(image)
    }

    fn fetch(&self, image: &Path) -> Result<()> {
        let apt = Apt::for_suite(self.suite)?;
        let package = self.package(&apt)?;
        println!("vm: fetching {package} from Debian {}", self.suite);

        let folder = paths::vm().join("kernels/unpacking");
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let deb = apt.download(&package, &folder)?;
        sh::run(sh::cmd("dpkg-deb").arg("--extract").arg(&deb).arg(&folder))?;

        let found =
            image_in(&folder).with_context(|| format!("there is no kernel image in {package}"))?;
        let home = paths::vm().join("kernels").join(self.version);
        fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
        fs::rename(&found, image).with_context(|| format!("cannot create {}", image.display()))?;
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
    }

    /// The newest package with this kernel's image.
    fn package(&self, apt: &Apt) -> Result<String> {
        // From 7.x the image is in linux-binary-*, and linux-image-* is an empty package.
        for prefix in ["linux-binary-", "linux-image-"] {
            let names = apt.names(prefix)?;
            if let Some(package) = newest(&names, prefix, self.version) {
                return Ok(package.to_owned());
            }
        }
        bail!(
            "Debian {} has no cloud kernel {}: the suite has moved on, and so should the list \
             in xtask/src/vm/kernel.rs",
            self.suite,
            self.version
        )
    }
}

/// The image in an unpacked package: /boot/vmlinuz-*, or from 7.x /usr/lib/modules/*/vmlinuz.
fn image_in(unpacked: &Path) -> Option<PathBuf> {
    let in_boot = files(&unpacked.join("boot"));
    let in_modules = files(&unpacked.join("usr/lib/modules"))
        .into_iter()
        .flat_map(|release| files(&release));
    in_boot.into_iter().chain(in_modules).find(|path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("vmlinuz")
    })
}

fn files(folder: &Path) -> Vec<PathBuf> {
    match fs::read_dir(folder) {
        Ok(entries) => entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .collect(),
        // Each layout lacks the other's folders.
        Err(_) => Vec::new(),
    }
}

/// `linux-image-6.12.107+deb13-cloud-amd64` for 6.12, the newest one.
fn newest<'names>(names: &'names [String], prefix: &str, version: &str) -> Option<&'names str> {
    names
        .iter()
        .filter(|name| name.ends_with("-cloud-amd64"))
        .filter_map(|name| {
            let rest = name.strip_prefix(prefix)?;
            let patch = rest.strip_prefix(version)?.strip_prefix('.')?;
            Some((numbers(patch), name.as_str()))
        })
        .max()
        .map(|(_, name)| name)
}

/// The numbers in a version, in order, for comparing.
fn numbers(version: &str) -> Vec<u32> {
    version
        .split(|character: char| !character.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::newest;

    fn chosen(names: &[&str], version: &str) -> Option<String> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        newest(&names, "linux-image-", version).map(str::to_owned)
    }

    #[test]
    fn the_newest_patch_wins_by_number() {
        let names = [
            "linux-image-6.12.94+deb13-cloud-amd64",
            "linux-image-6.12.107+deb13-cloud-amd64",
            "linux-image-6.12.107+deb13-amd64",
            "linux-image-cloud-amd64",
        ];
        let expected = "linux-image-6.12.107+deb13-cloud-amd64";
        assert_eq!(chosen(&names, "6.12").as_deref(), Some(expected));
    }

    #[test]
    fn a_longer_version_is_another_kernel() {
        assert_eq!(
            chosen(&["linux-image-6.12.94+deb13-cloud-amd64"], "6.1"),
            None
        );
    }
}
