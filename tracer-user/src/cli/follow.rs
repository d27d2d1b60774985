//! `lastbyte watch` with a daemon: prints what it reports, also across its restarts. What became known
//! while there was no connection is read from the daemon's store.

use std::{
    collections::{HashMap, HashSet},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::Context as _;

use super::{Watching, live::Screen, show, watch::Idle};
use crate::{
    daemon::{
        client::{Client, ClientError},
        protocol::{Frame, Reply, Request},
    },
    export::is_wanted,
    model::{Filter, Finding, FindingKey, Model, SessionId, State, Update, message::counted},
};

/// From one attempt to reach the daemon to the next.
const RETRY: Duration = Duration::from_millis(500);
/// The last word on a session may be known this much later than its time, ns.
const LATE: u64 = 60_000_000_000;
/// Sessions that have closed of which that is remembered.
const CLOSED: usize = 65_536;

/// See the module.
pub struct Follower<'a> {
    socket: PathBuf,
    watching: &'a Watching,
    screen: Screen,
    idle: Idle,
    printed: Printed,
    /// The latest time of anything that was printed before the last connection ended.
    lost_at: u64,
    /// Wall clock minus `CLOCK_BOOTTIME`, ns.
    wall_offset: u64,
    clock: StopClock,
}

/// How a connection ended.
enum Ended {
    /// Everything that was wanted is printed.
    Done,
    /// The daemon is gone, or goes.
    Lost,
}

impl<'a> Follower<'a> {
    pub fn new(socket: &Path, watching: &'a Watching) -> Self {
        Self {
            socket: socket.to_owned(),
            watching,
            screen: Screen::new(watching.print),
            idle: Idle::default(),
            printed: Printed::default(),
            lost_at: 0,
            wall_offset: 0,
            clock: StopClock::default(),
        }
    }

    /// Prints what the daemon reports until the end that was asked for.
    ///
    /// # Errors
    /// When the daemon refuses, or cut us off.
    pub fn follow(mut self, client: Client) -> anyhow::Result<()> {
        if let Some(time) = self.watching.time {
            self.clock.start(time)?;
        }
        let mut client = client;
        let mut again = false;
        loop {
            self.clock.watch(&client)?;
            match self.print_all(client, again)? {
                Ended::Done => return Ok(()),
                Ended::Lost if self.clock.has_stopped() => return Ok(()),
                Ended::Lost => {}
            }
            // What is printed from here on may be later than what was missed.
            self.lost_at = self.printed.last;
            eprintln!(
                "lastbyte: the daemon on {} is gone; reconnecting when it is back",
                self.socket.display()
            );
            client = match self.reconnect()? {
                Some(client) => client,
                None => return Ok(()),
            };
            again = true;
        }
    }

    /// `None` when the time is up.
    fn reconnect(&self) -> anyhow::Result<Option<Client>> {
        let all = self.watching.print.all || self.watching.until_idle;
        loop {
            thread::sleep(RETRY);
            if self.clock.has_stopped() {
                return Ok(None);
            }
            match Client::ask(&self.socket, &Request::Watch { all }) {
                Ok(client) => return Ok(Some(client)),
                Err(ClientError::NoDaemon(..) | ClientError::Broken(_)) => {}
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// Prints what one connection reports. `again`: it is not the first.
    fn print_all(&mut self, mut client: Client, again: bool) -> anyhow::Result<Ended> {
        let mut state = Vec::new();
        loop {
            let frame = match client.reply() {
                Ok(Some(frame)) => frame,
                // A daemon that is killed says no last word.
                Ok(None) | Err(ClientError::Broken(_) | ClientError::Incomplete) => {
                    return Ok(Ended::Lost);
                }
                Err(error) => return Err(error.into()),
            };
            let Frame::Message(reply) = frame else {
                continue;
            };
            let done = match reply {
                Reply::State(update) => {
                    state.push(update.clone());
                    self.print(&update)?
                }
                Reply::Live if again => match self.catch_up(&std::mem::take(&mut state)) {
                    Ok(done) => done,
                    Err(error) => {
                        eprintln!("lastbyte: cannot read what happened meanwhile: {error:#}");
                        false
                    }
                },
                Reply::News(update) => self.print(&update)?,
                Reply::Missed { updates } => anyhow::bail!(
                    "the daemon disconnected this client: it was too slow and missed {}; `lastbyte ls` shows the present state",
                    counted(updates, "update")
                ),
                Reply::Bye => return Ok(Ended::Lost),
                _ => false,
            };
            if done {
                return Ok(Ended::Done);
            }
        }
    }

    /// Prints an update that was not printed yet. True when nothing more is wanted.
    fn print(&mut self, update: &Update) -> anyhow::Result<bool> {
        if let Update::Started(it) = update {
            self.wall_offset = it.wall_offset;
        }
        if !self.printed.is_new(update) {
            return Ok(false);
        }
        self.screen.print(std::slice::from_ref(update))?;
        Ok(self.watching.until_idle && self.idle.after(update))
    }

    /// Prints what became known between two connections; `state` is what is so now.
    fn catch_up(&mut self, state: &[Update]) -> anyhow::Result<bool> {
        let since = self
            .lost_at
            .saturating_sub(LATE)
            .wrapping_add(self.wall_offset);
        let closed = |filter: Filter| Filter {
            open: Some(false),
            ..filter
        };
        let mut sessions = self.listed(closed(Filter {
            at: Some(since),
            ..Filter::default()
        }))?;
        sessions.extend(self.listed(closed(Filter {
            since: Some(since),
            ..Filter::default()
        }))?);
        // Open ones of which something is no longer so.
        sessions.extend(self.printed.resolved_in(state));
        sessions.retain(|(id, _)| !self.printed.closed.contains(id));
        sessions.sort_unstable();
        sessions.dedup();
        let mut missed = Vec::new();
        for (id, name) in sessions {
            let records = show::records(&self.socket, &name)?.1;
            let (mut model, mut updates) = (Model::new(), Vec::new());
            for record in records.iter() {
                model.apply(record, &mut updates);
            }
            let last = self.lost_at;
            updates.retain(|it| {
                let is_about = it.session().is_some_and(|session| session.id == id);
                let is_wanted = is_wanted(it) || self.watching.print.all && it.time() > Some(last);
                is_about && (is_wanted || self.watching.until_idle)
            });
            // A session's in the order in which they were reported.
            let mut latest = 0;
            missed.extend(updates.into_iter().map(|update| {
                latest = latest.max(update.reported().unwrap_or(0));
                (latest, update)
            }));
        }
        missed.sort_by_key(|(time, _)| *time);
        for (_, update) in &missed {
            if self.print(update)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ids and names of sessions that the daemon lists.
    fn listed(&self, filter: Filter) -> anyhow::Result<Vec<(SessionId, String)>> {
        let mut client = Client::ask(&self.socket, &Request::List(filter))?;
        let mut all = Vec::new();
        while let Some(frame) = client.reply()? {
            if let Frame::Message(Reply::Listed(it)) = frame {
                all.push((it.session.id, it.name));
            }
        }
        Ok(all)
    }
}

/// What was printed, so that it is not printed again.
#[derive(Default)]
pub(super) struct Printed {
    /// The latest time of anything.
    last: u64,
    opened: HashSet<SessionId>,
    closed: HashSet<SessionId>,
    /// The last word on each finding of sessions that are open.
    findings: HashMap<SessionId, Vec<Word>>,
}

/// The last that was said of a finding.
#[derive(Clone, Copy, PartialEq)]
struct Word {
    key: FindingKey,
    state: State,
    time: u64,
}

impl Word {
    fn of(finding: &Finding) -> Self {
        Self {
            key: finding.key(),
            state: finding.state,
            time: finding.time,
        }
    }

    /// What a state and a history say at one time, the end says last.
    fn order(&self) -> (u64, bool) {
        (self.time, self.state == State::Resolved)
    }

    fn is_about_the_same(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Printed {
    /// Remembers an update; false when it was there already.
    pub(super) fn is_new(&mut self, update: &Update) -> bool {
        let is_new = match update {
            Update::SessionOpened(it) => {
                let id = it.session.id;
                !self.closed.contains(&id) && self.opened.insert(id)
            }
            Update::SessionClosed(it) => {
                let id = it.session.id;
                self.opened.remove(&id);
                self.findings.remove(&id);
                if self.closed.len() == CLOSED {
                    self.closed.clear();
                }
                self.closed.insert(id)
            }
            Update::Finding(it) => !self.closed.contains(&it.session.id) && self.is_new_word(it),
            Update::Forget { session } => {
                self.opened.remove(session);
                self.findings.remove(session);
                true
            }
            other => other
                .session()
                .is_none_or(|session| !self.closed.contains(&session.id)),
        };
        self.last = self.last.max(update.time().unwrap_or(0));
        is_new
    }

    fn is_new_word(&mut self, finding: &Finding) -> bool {
        let word = Word::of(finding);
        let words = self.findings.entry(finding.session.id).or_default();
        match words.iter_mut().find(|it| it.is_about_the_same(&word)) {
            // What is kept may tell an older word again.
            Some(known) if known.order() >= word.order() => false,
            Some(known) => {
                *known = word;
                true
            }
            None => {
                words.push(word);
                true
            }
        }
    }

    /// Open sessions of which something was found that is not among what is so now.
    fn resolved_in(&self, state: &[Update]) -> Vec<(SessionId, String)> {
        let is_so = |id: SessionId, word: &Word| {
            state.iter().any(|update| match update {
                Update::Finding(it) => it.session.id == id && Word::of(it).is_about_the_same(word),
                _ => false,
            })
        };
        let lasts = |word: &Word| word.state != State::Resolved && word.key.kind.is_hang();
        self.findings
            .iter()
            .filter(|(id, words)| words.iter().any(|word| lasts(word) && !is_so(**id, word)))
            .map(|(id, _)| (*id, id.to_string()))
            .collect()
    }
}

/// Ends the connection, whichever it is by then, after a time.
#[derive(Clone, Default)]
struct StopClock(Arc<Mutex<Stop>>);

#[derive(Default)]
struct Stop {
    stopped: bool,
    connection: Option<UnixStream>,
}

impl StopClock {
    fn start(&self, time: Duration) -> anyhow::Result<()> {
        let this = self.clone();
        thread::Builder::new()
            .name("lastbyte-stop".to_owned())
            .spawn(move || {
                thread::sleep(time);
                let mut stop = this.0.lock().unwrap_or_else(PoisonError::into_inner);
                stop.stopped = true;
                if let Some(connection) = &stop.connection {
                    // Fails only on a connection that has ended by itself.
                    let _ = connection.shutdown(Shutdown::Both);
                }
            })
            .context("starting the clock")?;
        Ok(())
    }

    /// From here on this is the connection.
    fn watch(&self, client: &Client) -> anyhow::Result<()> {
        let connection = client.closer().context("the connection")?;
        let mut stop = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if stop.stopped {
            let _ = connection.shutdown(Shutdown::Both);
        }
        stop.connection = Some(connection);
        Ok(())
    }

    fn has_stopped(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stopped
    }
}
