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
            let done = match &config.tracing.pins {
                None => "nothing is pinned: tracing.pins is off".to_owned(),
                Some(pins) => match probe::remove_all(pins)? {
                    0 => format!("nothing is pinned in {}", pins.display()),
                    _ => format!("detached everything that was pinned in {}", pins.display()),
                },
            };
            println!("{done}");
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
