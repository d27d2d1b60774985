//! `lastbyte ls`.

use std::process::ExitCode;

use super::Ls;

impl Ls {
    pub(super) fn run(&self, _verbose: bool) -> anyhow::Result<ExitCode> {
        anyhow::bail!("not yet: {:?} {:?} {}", self.attach, self.trace, self.json)
    }
}
