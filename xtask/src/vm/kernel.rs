//! Debian's cloud kernels: small, modular, with BTF, and on every Debian cloud server.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::modules;
use crate::{apt::Apt, arch::Arch, paths};

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

/// A kernel's files.
pub struct Files {
    pub image: PathBuf,
    /// An initramfs with the modules that cases need.
    pub modules: PathBuf,
}

impl Kernel {
    /// The kernel's files; downloaded the first time.
    pub fn files(&self, arch: Arch) -> Result<Files> {
        let name = format!("{}-{}", self.version, arch.debian());
        let home = paths::vm().join("kernels").join(name);
        let files = Files {
            image: home.join("vmlinuz"),
            modules: home.join("modules.cpio"),
        };
        // The modules come last.
        if !files.modules.is_file() {
            self.fetch(arch, &home, &files).with_context(|| {
                format!(
                    "cannot get kernel {} from Debian {}",
                    self.version, self.suite
                )
            })?;
        }
        Ok(files)
    }

    fn fetch(&self, arch: Arch, home: &Path, files: &Files) -> Result<()> {
        let apt = Apt::for_suite(self.suite, arch)?;
        let unpacked = home.join("unpacked");
        if unpacked.exists() {
            fs::remove_dir_all(&unpacked)
                .with_context(|| format!("cannot empty {}", unpacked.display()))?;
        }
        fs::create_dir_all(&unpacked)
            .with_context(|| format!("cannot create {}", unpacked.display()))?;
        let packages = self.packages(&apt, arch)?;
        for package in &packages {
            println!("vm: fetching {package} from Debian {}", self.suite);
            apt.extract(package, &unpacked)?;
        }

        let found = image_in(&unpacked)
            .with_context(|| format!("there is no kernel image in {}", packages.join(", ")))?;
        fs::rename(&found, &files.image)
            .with_context(|| format!("cannot create {}", files.image.display()))?;
        modules::pack(&unpacked, &files.modules)?;
        fs::remove_dir_all(&unpacked)
            .with_context(|| format!("cannot remove {}", unpacked.display()))
    }

    /// The newest packages with this kernel's image and modules.
    fn packages(&self, apt: &Apt, arch: Arch) -> Result<Vec<String>> {
        // From 7.x both have a package of their own, and linux-image-* is empty.
        for prefixes in [&["linux-binary-", "linux-modules-"][..], &["linux-image-"]] {
            let found = prefixes.iter().map(|prefix| {
                let names = apt.names(prefix)?;
                Ok(newest(&names, prefix, self.version, arch).map(str::to_owned))
            });
            if let Some(packages) = found.collect::<Result<Option<Vec<_>>>>()? {
                return Ok(packages);
            }
        }
        bail!(
            "Debian {} has no cloud kernel {} for {}: the suite has moved on, and so should the \
             list in xtask/src/vm/kernel.rs",
            self.suite,
            self.version,
            arch.debian()
        )
    }
}

/// The image in unpacked packages: /boot/vmlinuz-*, or from 7.x /usr/lib/modules/*/vmlinuz.
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

/// What a folder holds; nothing where there is no such folder, as each layout lacks the other's.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    match fs::read_dir(folder) {
        Ok(entries) => entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .collect(),
        Err(_) => Vec::new(),
    }
}

/// `linux-image-6.12.107+deb13-cloud-amd64` for 6.12, the newest one.
fn newest<'names>(
    names: &'names [String],
    prefix: &str,
    version: &str,
    arch: Arch,
) -> Option<&'names str> {
    let suffix = format!("-cloud-{}", arch.debian());
    names
        .iter()
        .filter(|name| name.ends_with(&suffix))
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
    use crate::arch::Arch;

    fn chosen(names: &[&str], version: &str) -> Option<String> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        newest(&names, "linux-image-", version, Arch::X86_64).map(str::to_owned)
    }

    #[test]
    fn the_newest_patch_wins_by_number() {
        let names = [
            "linux-image-6.12.94+deb13-cloud-amd64",
            "linux-image-6.12.107+deb13-cloud-amd64",
            "linux-image-6.12.107+deb13-amd64",
            "linux-image-6.12.108+deb13-cloud-arm64",
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
