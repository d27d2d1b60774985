//! `lastbyte watch`.

use std::{collections::HashSet, process::ExitCode};

use super::{
    Watch, Watching,
    follow::Follower,
    live::{self, End},
};
use crate::{daemon::protocol::Request, model::Update};

impl Watch {
    pub(super) fn run(&self, verbose: bool) -> anyhow::Result<ExitCode> {
        let watching = &self.watching;
        if !watching.trace.is_chosen() {
            // Whether it is idle can be told only by one who knows of every session.
            let all = watching.print.all || watching.until_idle;
            if let Some(client) = self.daemon_target.ask(&Request::Watch { all })? {
                Follower::new(self.daemon_target.path(), watching).follow(client)?;
                return Ok(ExitCode::SUCCESS);
            }
        }
        live::run(
            &watching.trace,
            watching.print,
            &watching.end(),
            None,
            verbose,
        )?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Watching {
    pub(super) const fn end(&self) -> End {
        End {
            after: self.time,
            until_idle: self.until_idle,
        }
    }
}

/// Whether a session has closed and none is open.
#[derive(Default)]
pub(super) struct Idle {
    open: HashSet<u64>,
}

impl Idle {
    pub(super) fn after(&mut self, update: &Update) -> bool {
        match update {
            Update::SessionOpened(it) => {
                self.open.insert(it.session.id.0);
                false
            }
            Update::SessionClosed(it) => {
                self.open.remove(&it.session.id.0);
                self.open.is_empty()
            }
            _ => false,
        }
    }
}
