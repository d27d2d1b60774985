//! `lastbyte record`.

use std::process::ExitCode;

use super::{Record, live};

impl Record {
    pub(super) fn run(&self, verbose: bool) -> anyhow::Result<ExitCode> {
        live::run(
            &self.watching.trace,
            self.watching.print,
            &self.watching.end(),
            Some(&self.file),
            verbose,
        )?;
        Ok(ExitCode::SUCCESS)
    }
}
