//! A private apt for one Debian suite: its own lists and cache, nothing of the system's touched.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{arch::Arch, paths, sh};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

pub struct Apt {
    config: PathBuf,
    arch: Arch,
    suite: &'static str,
}

impl Apt {
    /// apt for `suite`, with fresh package lists.
    pub fn for_suite(suite: &'static str, arch: Arch) -> Result<Self> {
        let root = paths::apt().join(format!("{suite}-{}", arch.debian()));
        Self::with_lists(suite, arch, &root, "deb")
    }

    /// The same for its source packages, which are the same for all processors.
    pub fn for_sources(suite: &'static str) -> Result<Self> {
        let root = paths::apt().join(format!("{suite}-sources"));
        Self::with_lists(suite, Arch::X86_64, &root, "deb-src")
    }

    fn with_lists(suite: &'static str, arch: Arch, root: &Path, kind: &str) -> Result<Self> {
        let apt = Self {
            config: root.join("apt.conf"),
            arch,
            suite,
        };
        apt.configure(root, kind)
            .with_context(|| format!("cannot set up a private apt in {}", root.display()))?;
        sh::quietly(apt.command("apt-get").args(["--quiet", "update"]))
            .with_context(|| format!("cannot read the package lists of Debian {suite}"))?;
        Ok(apt)
    }

    /// The names of all packages that begin with `prefix`.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = sh::output(self.command("apt-cache").args(["pkgnames", prefix]))
            .with_context(|| format!("cannot list the packages of Debian {}", self.suite))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Downloads a package and unpacks its files into `folder`, with what is there already.
    pub fn extract(&self, package: &str, folder: &Path) -> Result<()> {
        let download = folder.join("package");
        let deb = self.download(package, &download)?;
        sh::run(sh::cmd("dpkg-deb").arg("--extract").arg(&deb).arg(folder))?;
        fs::remove_dir_all(&download)
            .with_context(|| format!("cannot remove {}", download.display()))
    }

    /// Downloads a source package, checked against the archive's signature, into `folder`; gives the
    /// archive of its upstream source.
    pub fn source(&self, package: &str, folder: &Path) -> Result<PathBuf> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        sh::quietly(
            self.command("apt-get")
                .args(["--quiet", "source", "--download-only", package])
                .current_dir(folder),
        )
        .with_context(|| format!("cannot download the source of {package}"))?;
        fs::read_dir(folder)
            .with_context(|| format!("cannot list {}", folder.display()))?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| path.to_string_lossy().ends_with(".orig.tar.gz"))
            .with_context(|| format!("apt-get left no source in {}", folder.display()))
    }

    /// Downloads a package, checked against the archive's signature, into `folder`, which will
    /// hold nothing else.
    fn download(&self, package: &str, folder: &Path) -> Result<PathBuf> {
        if folder.exists() {
            fs::remove_dir_all(folder)
                .with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        sh::quietly(
            self.command("apt-get")
                .args(["--quiet", "download", package])
                .current_dir(folder),
        )
        .with_context(|| format!("cannot download {package} from Debian {}", self.suite))?;
        fs::read_dir(folder)
            .with_context(|| format!("cannot list {}", folder.display()))?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .with_context(|| format!("apt-get left no package in {}", folder.display()))
    }

    fn configure(&self, root: &Path, kind: &str) -> Result<()> {
        for folder in [
            "lists/partial",
            "cache/archives/partial",
            "none/preferences.d",
        ] {
            fs::create_dir_all(root.join(folder))?;
        }
        fs::write(root.join("status"), "")?;
        fs::write(
            root.join("sources.list"),
            format!(
                "{kind} [signed-by={KEYRING}] {} {} main\n",
                mirror(),
                self.suite
            ),
        )?;
        let (root, arch) = (root.display(), self.arch.debian());
        fs::write(
            &self.config,
            format!(
                r#"APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "";
Acquire::Languages "none";
// A mirror's sid may be days past its date; packages are checked by signature all the same.
Acquire::Check-Valid-Until "false";
Dir::State "{root}";
Dir::State::Lists "{root}/lists";
Dir::State::Status "{root}/status";
Dir::Cache "{root}/cache";
Dir::Etc "{root}/none";
Dir::Etc::SourceList "{root}/sources.list";
"#
            ),
        )?;
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = sh::cmd(program);
        command.env("APT_CONFIG", &self.config);
        command
    }
}

/// The Debian mirror that this machine already uses.
pub fn mirror() -> String {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.filter_map(Result::ok).map(|entry| entry.path()));
    }
    files.sort();
    files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .find_map(|text| mirror_in(&text))
        .unwrap_or_else(|| "http://deb.debian.org/debian".to_owned())
}

/// The first Debian archive named in an apt source file of either format.
fn mirror_in(text: &str) -> Option<String> {
    text.lines()
        .filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"))
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_end_matches('/'))
        .find(|word| word.contains("://") && word.ends_with("/debian"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::mirror_in;

    #[test]
    fn the_mirror_is_read_from_both_formats() {
        let deb822 = "Types: deb\n# http://old.example/debian\nURIs: http://m.example/debian/\n";
        assert_eq!(
            mirror_in(deb822).as_deref(),
            Some("http://m.example/debian")
        );
        let lines = "# deb http://old.example/debian x main\n\
                     deb [signed-by=/k] https://m.example/debian trixie main\n";
        assert_eq!(
            mirror_in(lines).as_deref(),
            Some("https://m.example/debian")
        );
    }

    #[test]
    fn other_archives_are_no_debian_mirror() {
        let other = "deb http://s.example/debian-security trixie-security main\n\
                     deb https://n.example/node_20.x nodistro main\n";
        assert_eq!(mirror_in(other), None);
    }
}
