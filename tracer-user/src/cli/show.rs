//! `lastbyte show` and `lastbyte explain`.

use std::{path::Path, process::ExitCode};

use anyhow::Context as _;
use tracer_ebpf::Record;

use super::{Show, printer::Printer};
use crate::{
    daemon::{
        client::{Client, ClientError},
        protocol::{Frame, Reply, Request},
    },
    export::{self, Zone},
    model::{
        Model, SessionView, Update,
        timeline::{Timeline, Timelines},
    },
    store::{RecordList, recording::Reader},
};

/// Most closed sessions that are kept of a recording.
const MOST: usize = 1 << 20;

impl Show {
    pub(super) fn show(&self) -> anyhow::Result<ExitCode> {
        let history = self.history()?;
        let lines = match self.json {
            true => export::show_json(&history.line, history.wall_offset, &history.host),
            false => export::show(&history.line, history.wall_offset, &Zone::local()),
        };
        self.print(&lines)
    }

    pub(super) fn explain(&self) -> anyhow::Result<ExitCode> {
        let history = self.history()?;
        let lines = match self.json {
            true => vec![export::explain_json(
                &history.line,
                history.wall_offset,
                &history.host,
            )],
            false => export::explain(&history.line, history.wall_offset, &Zone::local()),
        };
        self.print(&lines)
    }

    fn print(&self, lines: &[String]) -> anyhow::Result<ExitCode> {
        let mut out = Printer::new(self.json, self.bytes);
        lines.iter().try_for_each(|line| out.line(line))?;
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }

    fn history(&self) -> anyhow::Result<History> {
        let mut histories = Histories::default();
        let Some(path) = &self.file else {
            let history = Histories::from_daemon(self.daemon_target.path(), &self.session);
            return history.map_err(|error| match error.downcast_ref() {
                Some(ClientError::NoDaemon(..)) => {
                    error.context("no daemon to ask; to read a recording, use --file RECORDING")
                }
                _ => error,
            });
        };
        let mut reader = Reader::open(path).with_context(|| path.display().to_string())?;
        while let Some(record) = reader.next().with_context(|| path.display().to_string())? {
            histories.apply(record);
        }
        histories.find(&self.session)
    }
}

/// The records that a daemon keeps of a session, and its id.
pub fn records(socket: &Path, session: &str) -> anyhow::Result<(String, RecordList)> {
    let request = Request::Course {
        session: session.to_owned(),
    };
    let mut client = Client::ask(socket, &request)?;
    let mut name = session.to_owned();
    let mut records = RecordList::default();
    while let Some(frame) = client.reply()? {
        match frame {
            Frame::Message(Reply::Listed(listed)) => name = listed.session.id.to_string(),
            Frame::Message(_) => {}
            // The daemon sends whole words, of which records are made.
            Frame::Records(bytes) => records.extend(&bytes),
        }
    }
    Ok((name, records))
}

/// A session's timeline, its host and its clock.
pub struct History {
    pub line: Timeline,
    wall_offset: u64,
    host: String,
}

/// The timelines of all sessions in some records.
pub struct Histories {
    model: Model,
    lines: Timelines,
    updates: Vec<Update>,
    wall_offset: u64,
    host: String,
}

impl Default for Histories {
    fn default() -> Self {
        Self {
            model: Model::new(),
            lines: Timelines::new(MOST),
            updates: Vec::new(),
            wall_offset: 0,
            host: String::new(),
        }
    }
}

impl Histories {
    /// A session in the daemon's store.
    pub fn from_daemon(socket: &Path, session: &str) -> anyhow::Result<History> {
        let (name, records) = records(socket, session)?;
        let mut histories = Self::default();
        records.iter().for_each(|record| histories.apply(record));
        histories.find(&name)
    }

    fn apply(&mut self, record: Record<'_>) {
        self.model.apply(record, &mut self.updates);
        self.lines.apply(record, &self.updates);
        for update in self.updates.drain(..) {
            if let Update::Started(started) = update {
                self.wall_offset = started.wall_offset;
                self.host = started.host.to_string();
            }
        }
    }

    /// The session of that id, or the latest whose command has that pid.
    fn find(self, wanted: &str) -> anyhow::Result<History> {
        let is_meant = |session: &SessionView| {
            session.id.to_string() == wanted || session.id.pid().to_string() == wanted
        };
        let lines = self.lines.open().chain(self.lines.closed());
        let found = lines
            .filter(|line| is_meant(&line.session))
            .max_by_key(|line| line.session.opened)
            .cloned();
        let line = found.with_context(|| format!("no session {wanted}; see `lastbyte ls`"))?;
        Ok(History {
            line,
            wall_offset: self.wall_offset,
            host: self.host,
        })
    }
}
