//! The outcomes of a run for programs to read.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde_json::json;

use crate::case::{Case, Outcome};
use crate::holes;

/// A file that gets a line for each case that has ended.
#[derive(Debug)]
pub struct Results {
    /// `None` when nobody wants it.
    file: Option<File>,
    backend: String,
    kernel: String,
    arch: String,
}

impl Results {
    /// An empty file; the tracer runs with `backend`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: Option<&Path>, backend: &str) -> anyhow::Result<Self> {
        let create = |path: &Path| {
            File::create(path).with_context(|| format!("cannot make {}", path.display()))
        };
        Ok(Self {
            file: path.map(create).transpose()?,
            backend: backend.to_owned(),
            kernel: uname("-r")?,
            arch: uname("-m")?,
        })
    }

    /// Adds a case's outcome.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, case: &Case, outcome: &Outcome) -> anyhow::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let (word, reason) = match outcome {
            Outcome::Passed(_) => ("passed", holes::reason(&self.backend, case.id)),
            Outcome::Failed(problems) => ("failed", problems.first().map(String::as_str)),
            Outcome::Skipped(why) => ("skipped", Some(why.as_str())),
        };
        let line = json!({
            "case": case.id,
            "class": case.class.to_string(),
            "backend": self.backend,
            "kernel": self.kernel,
            "arch": self.arch,
            "outcome": word,
            "reason": reason,
        });
        writeln!(file, "{line}").context("cannot write the results")
    }
}

fn uname(of: &str) -> anyhow::Result<String> {
    let output = Command::new("uname")
        .arg(of)
        .output()
        .context("cannot run uname")?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}
