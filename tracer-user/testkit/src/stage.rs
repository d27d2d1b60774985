//! What a scenario works with: servers, clients, the tracer's output so far.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Arrived, Client, Target};
use crate::event::Event;
use crate::expect::{Bytes, Expect, Stream, Who};
use crate::tracer::Tracer;
use crate::world::{Server, World};

/// A case that cannot run here, and why.
#[derive(Debug)]
pub struct Skipped(pub String);

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skipped {}

/// What all cases of a run share.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// Directory, files, servers.
    pub world: &'a World,
    /// The tracer that watches the whole run.
    pub tracer: &'a Tracer,
    /// The `lastbyte` binary, for cases that start one of their own.
    pub lastbyte: &'a Path,
    /// `--backend` of every tracer.
    pub backend: Option<&'a str>,
    /// How long to wait for anything before calling it missing.
    pub patience: Duration,
}

/// How long to wait for anything on an ordinary machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One case under way.
#[derive(Debug)]
pub struct Stage<'a> {
    /// What all cases share.
    pub setting: Setting<'a>,
    /// Where the case's events begin in the tracer's output.
    pub mark: usize,
    /// Sessions that were open at that moment: left over by a case that failed.
    left_over: BTreeSet<String>,
    /// Measurements to be printed behind the case's result.
    pub notes: Vec<String>,
}

/// Numbers the sessions of this process.
static SESSIONS: AtomicU32 = AtomicU32::new(0);

/// A marker that no other session has, and none begins with.
#[must_use]
pub fn new_marker() -> String {
    let number = SESSIONS.fetch_add(1, Ordering::Relaxed);
    format!("lb-{:07}-{number:06}", std::process::id())
}

impl<'a> Stage<'a> {
    /// Begins a case: its events are those from now on.
    #[must_use]
    pub fn new(setting: Setting<'a>) -> Self {
        let (mark, left_over) = setting
            .tracer
            .look(|before| (before.len(), still_open(before)));
        Self {
            setting,
            mark,
            left_over,
            notes: Vec::new(),
        }
    }

    /// How to reach a server.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn target(&self, server: Server) -> anyhow::Result<Target> {
        self.setting.world.target(server)
    }

    /// Seconds for which a scenario's background job holds on when its own end is part of the
    /// scenario: long enough for the grace time and for looking at it, also on slow machines.
    #[must_use]
    pub fn hold(&self) -> u64 {
        (self.setting.patience.as_secs() / 10).max(3)
    }

    /// Seconds for a background job that the scenario ends when it has seen enough (see
    /// [`crate::procs::end`]): more than anything is waited for.
    #[must_use]
    pub fn lasting(&self) -> u64 {
        10 * self.setting.patience.as_secs()
    }

    /// Whether everything takes longer here, and is given longer.
    #[must_use]
    pub fn slow(&self) -> bool {
        self.setting.patience > PATIENCE
    }

    /// How often to do what is chance: less often where everything takes longer.
    #[must_use]
    pub fn times(&self, usually: usize) -> usize {
        let slowness = self.setting.patience.as_secs().div_ceil(PATIENCE.as_secs());
        usually
            .div_ceil(usize::try_from(slowness).unwrap_or(usize::MAX))
            .max(2)
    }

    /// A count of bytes discarded while somebody could still write: what the `syscall` backend
    /// cannot be sure of, since it does not see the release itself.
    #[must_use]
    pub fn with_writers(&self, bytes: u64) -> Bytes {
        match self.setting.tracer.backend().as_str() {
            "syscall" => Bytes::Equal(bytes),
            _ => Bytes::Exactly(bytes),
        }
    }

    /// Starts `ssh` with a command.
    ///
    /// # Errors
    /// When the server or the client cannot be started.
    pub fn start(&self, server: Server, command: &str) -> anyhow::Result<Started> {
        self.start_with(server, command, |_| {})
    }

    /// As [`Self::start`], after `change` has had its way with the client, up to its command.
    ///
    /// # Errors
    /// When the server or the client cannot be started.
    pub fn start_with(
        &self,
        server: Server,
        command: &str,
        change: impl FnOnce(&mut Command),
    ) -> anyhow::Result<Started> {
        self.start_at(&self.target(server)?, server, command, change)
    }

    /// As [`Self::start`], with the client in a terminal window.
    ///
    /// # Errors
    /// When the server or the client cannot be started.
    pub fn start_in_window(&self, server: Server, command: &str) -> anyhow::Result<Started> {
        let marker = new_marker();
        let mut ssh = self.target(server)?.ssh(&marker);
        ssh.arg("-tt").env("TERM", "xterm");
        ssh.arg(format!(": {marker}; {command}"));
        Ok(Started {
            begun: Instant::now(),
            client: Client::start_in_window(ssh)?,
            marker,
            server,
        })
    }

    /// As [`Self::start_with`], on a server of the case's own that is of the kind `server`.
    ///
    /// # Errors
    /// When the client cannot be started.
    pub fn start_at(
        &self,
        target: &Target,
        server: Server,
        command: &str,
        change: impl FnOnce(&mut Command),
    ) -> anyhow::Result<Started> {
        let marker = new_marker();
        let mut ssh = target.ssh(&marker);
        change(&mut ssh);
        ssh.arg(format!(": {marker}; {command}"));
        Ok(Started {
            begun: Instant::now(),
            client: Client::start(ssh)?,
            marker,
            server,
        })
    }

    /// Runs `ssh` with a command to its end.
    ///
    /// # Errors
    /// When something cannot be started or does not end.
    pub fn run(&self, server: Server, command: &str) -> anyhow::Result<Run> {
        self.start(server, command)?.finish(self.setting.patience)
    }

    /// Waits for a finding of this kind about the session with this marker.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn finding(&self, kind: &str, marker: &str) -> anyhow::Result<Event> {
        self.until(&format!("a finding `{kind}` about {marker}"), |event| {
            event.finds(kind) && event.command().contains(marker)
        })
    }

    /// Waits for an event of this case that is `wanted`.
    ///
    /// # Errors
    /// When there is none in time; the message names `what`.
    pub fn until(&self, what: &str, wanted: impl Fn(&Event) -> bool) -> anyhow::Result<Event> {
        let setting = self.setting;
        setting
            .tracer
            .wait_for(self.mark, setting.patience, what, |events| {
                events.iter().find(|event| wanted(event)).cloned()
            })
    }

    /// The events since the case began, without those about other people's sessions.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        let mut events = self.setting.tracer.since(self.mark);
        events.retain(|event| self.concerns(event));
        events
    }

    /// Whether an event may be about a session of this case.
    fn concerns(&self, event: &Event) -> bool {
        let left_over = event
            .session()
            .is_some_and(|id| self.left_over.contains(id));
        !left_over && !self.setting.world.foreign(event)
    }

    /// Waits until at least `count` sessions have been seen and none is open any more.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub fn settle(&self, count: usize) -> anyhow::Result<()> {
        let what = format!("the end of {count} sessions");
        self.setting
            .tracer
            .wait_for(self.mark, self.setting.patience, &what, |events| {
                let ids = |kind: &str| -> BTreeSet<&str> {
                    let own = events
                        .iter()
                        .filter(|event| event.is(kind) && self.concerns(event));
                    own.filter_map(Event::session).collect()
                };
                let (opened, closed) = (ids("session_opened"), ids("session_closed"));
                (opened.len() >= count && opened.is_subset(&closed)).then_some(())
            })
    }
}

/// Ids of the sessions that these events leave open.
fn still_open(events: &[Event]) -> BTreeSet<String> {
    let mut open = BTreeSet::new();
    for event in events {
        let Some(id) = event.session() else { continue };
        if event.is("session_opened") {
            open.insert(id.to_owned());
        } else if event.is("session_closed") {
            open.remove(id);
        }
    }
    open
}

/// A session whose client runs.
#[derive(Debug)]
pub struct Started {
    /// When its client was started.
    pub begun: Instant,
    /// The client.
    pub client: Client,
    /// The session's marker.
    pub marker: String,
    /// Where it runs.
    pub server: Server,
}

impl Started {
    /// Waits for the client's end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn finish(self, patience: Duration) -> anyhow::Result<Run> {
        Ok(Run {
            arrived: self.client.finish(patience)?,
            took: self.begun.elapsed(),
            marker: self.marker,
            server: self.server,
        })
    }
}

/// Bytes that a pipe holds by default: a session that writes no more never waits for its server.
const PIPE: u64 = 65536;

/// What may be reported about a transfer that took this long: on a busy machine a writer does stand
/// still.
#[must_use]
pub fn slow_transfer(took: Duration) -> &'static [&'static str] {
    if took < Duration::from_millis(900) {
        &[]
    } else {
        &["stalled"]
    }
}

/// A session whose client has ended.
#[derive(Debug)]
pub struct Run {
    /// What the client got.
    pub arrived: Arrived,
    /// How long its client ran.
    pub took: Duration,
    /// The session's marker.
    pub marker: String,
    /// Where it ran.
    pub server: Server,
}

impl Run {
    /// The session with this marker, and nothing wrong with it.
    #[must_use]
    pub fn clean(&self) -> Expect {
        let expect = Expect::clean(Who::Marked(self.marker.clone()), self.server);
        if self.arrived.stdout > PIPE {
            expect.tolerate(slow_transfer(self.took))
        } else {
            expect
        }
    }

    /// The same with these bytes of stdout at the client, as many as were written and read.
    ///
    /// # Errors
    /// When others arrived: then the scenario itself went wrong.
    pub fn whole(&self, bytes: u64) -> anyhow::Result<Expect> {
        let arrived = self.arrived.stdout;
        anyhow::ensure!(arrived == bytes, "{arrived} of {bytes} B arrived");
        let counted = Some(bytes);
        let expect = self.clean().exits(0);
        Ok(expect.counts(Stream::Stdout, counted, counted))
    }

    /// Checks the client's exit status.
    ///
    /// # Errors
    /// When it is another: then the scenario itself went wrong.
    pub fn ended_with(self, code: i32) -> anyhow::Result<Self> {
        anyhow::ensure!(
            self.arrived.status.code() == Some(code),
            "the client ended with {}, not {code}; stderr: {}",
            self.arrived.status,
            self.arrived.stderr_head.trim_end()
        );
        Ok(self)
    }
}
