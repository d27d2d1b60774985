//! `lastbyte daemon`.

use std::process::ExitCode;

use super::{Daemon, live};
use crate::{
    daemon::{self, Setup, config::Config},
    probe,
};

impl Daemon {
    pub(super) fn run(self, verbose: bool) -> anyhow::Result<ExitCode> {
        let config = Config::load(self.config.as_deref())?;
        if self.unpin {
            if let Some(pins) = &config.tracing.pins {
                probe::remove_all(pins)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let setup = Setup {
            config,
            file: self.config,
            verbose,
        };
        live::runtime()?.block_on(async { daemon::run(setup, live::stop(None)?).await })?;
        Ok(ExitCode::SUCCESS)
    }
}
