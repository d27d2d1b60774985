//! `lastbyte watch`.

use std::process::ExitCode;

use super::{
    Watch,
    live::{self, End},
};

impl Watch {
    pub(super) fn run(&self, verbose: bool) -> anyhow::Result<ExitCode> {
        live::run(&self.trace, self.print, &self.end(), None, verbose)?;
        Ok(ExitCode::SUCCESS)
    }

    pub(super) const fn end(&self) -> End {
        End {
            after: self.time,
            until_idle: self.until_idle,
        }
    }
}
