//! `lastbyte watch`.

use std::{
    collections::HashSet,
    net::Shutdown,
    os::unix::net::UnixStream,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;

use super::{
    Watch, Watching,
    live::{self, End, Screen},
};
use crate::{
    daemon::{
        client::Client,
        protocol::{Frame, Reply, Request},
    },
    model::Update,
};

impl Watch {
    pub(super) fn run(&self, verbose: bool) -> anyhow::Result<ExitCode> {
        let watching = &self.watching;
        if !watching.trace.is_chosen() {
            // Whether it is idle can be told only by one who knows of every session.
            let all = watching.print.all || watching.until_idle;
            if let Some(client) = self.attach.ask(&Request::Watch { all })? {
                follow(client, watching)?;
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

/// Prints what a daemon tells.
fn follow(mut client: Client, watching: &Watching) -> anyhow::Result<()> {
    let stopped = Arc::new(AtomicBool::new(false));
    if let Some(time) = watching.time {
        stop_after(time, client.closer()?, Arc::clone(&stopped))?;
    }
    let mut screen = Screen::new(watching.print);
    let mut idle = Idle::default();
    loop {
        let frame = match client.reply() {
            Ok(frame) => frame,
            Err(_) if stopped.load(Ordering::Relaxed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        match frame {
            Some(Frame::Message(Reply::State(update) | Reply::News(update))) => {
                screen.print(std::slice::from_ref(&update))?;
                if watching.until_idle && idle.after(&update) {
                    return Ok(());
                }
            }
            Some(Frame::Message(Reply::Missed { updates })) => anyhow::bail!(
                "the daemon cut us off: we were too slow and missed {updates} updates; ls shows what is so now"
            ),
            Some(Frame::Message(Reply::Bye)) => {
                anyhow::bail!("the daemon ended")
            }
            None if stopped.load(Ordering::Relaxed) => return Ok(()),
            None => anyhow::bail!("the daemon is gone"),
            Some(_) => {}
        }
    }
}

/// Closes the connection after a time.
fn stop_after(
    time: Duration,
    connection: UnixStream,
    stopped: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    std::thread::Builder::new()
        .name("lastbyte-stop".to_owned())
        .spawn(move || {
            std::thread::sleep(time);
            stopped.store(true, Ordering::Relaxed);
            // Fails only on a connection that has ended by itself.
            let _ = connection.shutdown(Shutdown::Both);
        })
        .context("starting the clock")?;
    Ok(())
}

/// Whether a session has closed and none is open.
#[derive(Default)]
struct Idle {
    open: HashSet<u64>,
}

impl Idle {
    fn after(&mut self, update: &Update) -> bool {
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
