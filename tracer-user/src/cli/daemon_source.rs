//! A daemon as the terminal UI's source.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{follow::Printed, show::Histories, top::PAST};
use crate::{
    daemon::{
        client::{Client, ClientError},
        protocol::{Frame, Reply, Request, Status},
    },
    model::{SessionId, Update, timeline::Timeline},
    tui::{
        Source,
        feed::{Feed, Phase, TracerLoad, Tracing},
        source::{Outbox, TimelineRequests},
    },
};

/// From one attempt to reach the daemon to the next.
const RETRY: Duration = Duration::from_secs(1);
/// How often the daemon is asked for its health, and for the history of the session that is shown.
const AGAIN: Duration = Duration::from_secs(1);
/// How long to wait for news before questions are answered.
const LOOK: Duration = Duration::from_millis(50);
/// Replies that may wait for us, while the past is fetched.
const WAITING: usize = 8192;

/// Follows a daemon, and finds it again when it is restarted.
pub struct DaemonSource {
    /// Where it listens.
    pub socket: PathBuf,
}

impl Source for DaemonSource {
    fn run(self, mut out: Outbox, mut requests: TimelineRequests) -> anyhow::Result<()> {
        let (mut open, mut shown) = (HashSet::new(), Shown::default());
        let mut watched = Watched::default();
        out.send(Feed::Phase(Phase::Preparing(
            "connecting to the daemon".into(),
        )));
        loop {
            let ended = self.follow(&mut out, &mut requests, &mut open, &mut shown, &mut watched);
            if requests.is_closed() {
                return Ok(());
            }
            let why = match ended {
                Ok(()) => "the daemon ended".to_owned(),
                Err(error) => format!("{error:#}"),
            };
            out.flush();
            out.send(Feed::Phase(Phase::Lost(why)));
            thread::sleep(RETRY);
        }
    }
}

/// What the UI knows already.
#[derive(Default)]
struct Shown {
    updates: Printed,
    /// Also what was before it began.
    past: bool,
}

impl Shown {
    fn is_new(&mut self, update: &Update) -> bool {
        // Of an open session the latest word on what it went through counts.
        self.updates.is_new(update) || matches!(update, Update::SessionOpened(_))
    }
}

/// The session whose history is shown.
#[derive(Default)]
struct Watched {
    id: Option<SessionId>,
    /// There is news of it.
    changed: bool,
    /// Its history is being fetched.
    fetch: Option<Receiver<anyhow::Result<Timeline>>>,
    asked: Option<Instant>,
    /// Not to be fetched again before.
    again: Option<Instant>,
}

impl DaemonSource {
    /// Passes on what one connection reports, until it ends.
    fn follow(
        &self,
        out: &mut Outbox,
        requests: &mut TimelineRequests,
        open: &mut HashSet<SessionId>,
        shown: &mut Shown,
        watched: &mut Watched,
    ) -> anyhow::Result<()> {
        let client = Client::ask(&self.socket, &Request::Watch { all: true })?;
        let closer = client.closer().context("the connection")?;
        let news = replies(client)?;
        let mut before = std::mem::take(open);
        // What is reported meanwhile is in both.
        self.past(out, open, shown, watched);
        let mut health_at = Instant::now();
        loop {
            match news.recv_timeout(LOOK) {
                Ok(Ok(Reply::State(update) | Reply::News(update))) => {
                    note(&update, open, watched);
                    if shown.is_new(&update) {
                        out.queue(update);
                    }
                }
                Ok(Ok(Reply::Live)) => {
                    // What was open and is no more closed while we were away.
                    for session in before.drain().filter(|id| !open.contains(id)) {
                        out.queue(Update::Forget { session });
                    }
                    out.send(Feed::Tracing(self.tracing()?));
                    out.send(Feed::Phase(Phase::Live));
                }
                Ok(Ok(Reply::Missed { updates })) => {
                    out.send(Feed::Missed {
                        samples: 0,
                        updates,
                    });
                    return Ok(());
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(RecvTimeoutError::Timeout) => out.flush(),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            while let Some(id) = requests.try_next() {
                *watched = Watched {
                    id,
                    changed: true,
                    ..Watched::default()
                };
            }
            if requests.is_closed() {
                // The other thread's reading ends with it.
                let _ = closer.shutdown(std::net::Shutdown::Both);
                return Ok(());
            }
            self.history(out, watched);
            if health_at.elapsed() >= AGAIN {
                health_at = Instant::now();
                out.flush();
                if let Ok(status) = self.status() {
                    out.send(Feed::Load(health(&status)));
                }
            }
        }
    }

    /// Tells what was reported before the connection, or since the last one.
    fn past(
        &self,
        out: &mut Outbox,
        open: &mut HashSet<SessionId>,
        shown: &mut Shown,
        watched: &mut Watched,
    ) {
        let mut past = match self.reported() {
            Ok(past) => past,
            // One of an older version has none; what is so now is worth having all the same.
            Err(error) => return log::warn!("the daemon's past: {error:#}"),
        };
        past.retain(|update| {
            note(update, open, watched);
            shown.is_new(update)
        });
        if std::mem::replace(&mut shown.past, true) {
            past.into_iter().for_each(|update| out.queue(update));
        } else {
            out.send(Feed::Backlog(past));
        }
    }

    fn reported(&self) -> anyhow::Result<Vec<Update>> {
        let mut client = Client::ask(&self.socket, &Request::Past { limit: PAST })?;
        let mut past = Vec::new();
        while let Some(frame) = client.reply()? {
            if let Frame::Message(Reply::State(update)) = frame {
                past.push(update);
            }
        }
        Ok(past)
    }

    /// Sends the history of the session that is shown, when there is news of it. One of a hundred
    /// megabytes takes its time, so it is fetched on a thread of its own, and not too often.
    fn history(&self, out: &mut Outbox, watched: &mut Watched) {
        let Some(id) = watched.id else {
            return;
        };
        if let Some(fetch) = &watched.fetch {
            match fetch.try_recv() {
                Ok(Ok(timeline)) => out.send(Feed::Timeline(Box::new(timeline))),
                Ok(Err(error)) => log::warn!("the history of {id}: {error:#}"),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {}
            }
            watched.fetch = None;
            let took = watched.asked.map_or(AGAIN, |at| at.elapsed());
            watched.again = Some(Instant::now() + AGAIN.max(took * 4));
        }
        if !watched.changed || watched.again.is_some_and(|at| Instant::now() < at) {
            return;
        }
        watched.asked = Some(Instant::now());
        watched.changed = false;
        let (to, from) = sync_channel(1);
        let socket = self.socket.clone();
        let fetch = move || {
            // Another session may be looked at by now.
            let _ = to.send(timeline(&socket, id));
        };
        let thread = thread::Builder::new().name("lastbyte-history".to_owned());
        match thread.spawn(fetch) {
            Ok(_) => watched.fetch = Some(from),
            Err(error) => log::warn!("the history of {id}: {error}"),
        }
    }

    fn status(&self) -> anyhow::Result<Status> {
        let mut client = Client::ask(&self.socket, &Request::Status)?;
        match client.reply()? {
            Some(Frame::Message(Reply::Status(status))) => Ok(*status),
            _ => anyhow::bail!("the daemon does not say how it is"),
        }
    }

    fn tracing(&self) -> anyhow::Result<Tracing> {
        let status = self.status()?;
        Ok(Tracing {
            attached: status.attached,
            ring_bytes: status.ring_bytes,
            ..Tracing::default()
        })
    }
}

/// The timeline of a session: from the daemon's memory while the session is open, else from its database.
fn timeline(socket: &Path, id: SessionId) -> anyhow::Result<Timeline> {
    let mut client = Client::ask(
        socket,
        &Request::Timeline {
            session: id.to_string(),
        },
    )?;
    match client.reply() {
        Ok(Some(Frame::Message(Reply::Timeline(timeline)))) => Ok(*timeline),
        // Not in memory, or a daemon of an older version.
        Ok(_) | Err(ClientError::Failed(_)) => {
            Ok(Histories::from_daemon(socket, &id.to_string())?.line)
        }
        Err(error) => Err(error.into()),
    }
}

/// Replies, read on a thread of their own.
fn replies(mut client: Client) -> anyhow::Result<Receiver<Result<Reply, ClientError>>> {
    let (to, from) = sync_channel(WAITING);
    let read = move || {
        loop {
            let reply = match client.reply() {
                Ok(Some(Frame::Message(reply))) => Ok(reply),
                Ok(Some(Frame::Records(_))) => continue,
                Ok(None) => return,
                Err(error) => Err(error),
            };
            let last = reply.is_err();
            if to.send(reply).is_err() || last {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("lastbyte-news".to_owned())
        .spawn(read)
        .context("starting to listen to the daemon")?;
    Ok(from)
}

fn note(update: &Update, open: &mut HashSet<SessionId>, watched: &mut Watched) {
    match update {
        Update::SessionOpened(it) => {
            open.insert(it.session.id);
        }
        Update::SessionClosed(it) => {
            open.remove(&it.session.id);
        }
        Update::Forget { session } => {
            open.remove(session);
        }
        _ => {}
    }
    let about = update.session().map(|session| session.id);
    watched.changed |= about.is_some() && about == watched.id;
}

/// How much the daemon has to do, and what it takes.
fn health(status: &Status) -> TracerLoad {
    let stat = i32::try_from(status.pid)
        .ok()
        .and_then(|pid| procfs::process::Process::new(pid).ok())
        .and_then(|process| process.stat().ok());
    let tick = 1_000_000_000 / procfs::ticks_per_second();
    TracerLoad {
        time: crate::probe::boottime(),
        records: status.records,
        lost: status.lost,
        ring_peak: 0,
        resident: stat.as_ref().map(|stat| stat.rss * procfs::page_size()),
        cpu: stat.map(|stat| (stat.utime + stat.stime) * tick),
    }
}
