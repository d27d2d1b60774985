//! `lastbyte daemon`.

use std::process::ExitCode;

use super::{Daemon, live};
use crate::{
    daemon::{self, Rules, Setup},
    probe::Options,
};

impl Daemon {
    pub(super) fn run(self, verbose: bool) -> anyhow::Result<ExitCode> {
        let setup = Setup {
            options: Options {
                pins: Some(self.pins.clone()),
                ..self.trace.options(verbose)
            },
            socket: self.socket,
            rules: Rules {
                group: "lastbyte".to_owned(),
                allow_own: false,
                own_uid: rustix::process::geteuid().as_raw(),
            },
            max_clients: 100,
        };
        live::runtime()?.block_on(async { daemon::run(setup, live::stop(None)?).await })?;
        Ok(ExitCode::SUCCESS)
    }
}
