//! What a VM leaves behind under `target/vm/logs`: all that it printed, and the files it sent.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Begins a line of the guest that opens a file, by its name, or with the name `-` closes it.
pub const FILE: &str = "LASTBYTE-VM: file ";

pub struct Log {
    report: File,
    /// Where the files go that the guest sends.
    pub folder: PathBuf,
    /// The one that it is sending now.
    file: Option<File>,
}

impl Log {
    /// Empty, in place of the last run's.
    pub fn create(logs: &Path, name: &str) -> Result<Self> {
        let folder = logs.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let path = logs.join(format!("{name}.log"));
        let report =
            File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self {
            report,
            folder,
            file: None,
        })
    }

    /// Keeps a line of the guest; true when it belongs on the screen as well.
    pub fn take(&mut self, line: &str) -> bool {
        if let Some(name) = line.strip_prefix(FILE) {
            self.file = match name {
                "-" => None,
                _ => self.open(name),
            };
            return false;
        }
        let to = self.file.as_mut().unwrap_or(&mut self.report);
        // The outcome is on the screen: a full disk is no reason to stop the cases.
        let _ = writeln!(to, "{line}");
        self.file.is_none()
    }

    fn open(&self, name: &str) -> Option<File> {
        let path = self.folder.join(Path::new(name).file_name()?);
        let opened = fs::create_dir_all(&self.folder).and_then(|()| File::create(&path));
        match opened {
            Ok(file) => {
                println!("vm: kept {}", path.display());
                Some(file)
            }
            Err(error) => {
                println!("vm: cannot keep {}: {error}", path.display());
                None
            }
        }
    }
}
