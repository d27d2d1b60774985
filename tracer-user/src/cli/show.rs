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

/// Sessions of a recording that are looked at.
const MOST: usize = 1 << 20;

impl Show {
    pub(super) fn show(&self) -> anyhow::Result<ExitCode> {
        let course = self.course()?;
        let lines = match self.json {
            true => export::show_json(&course.line, course.wall_offset, &course.host),
            false => export::show(&course.line, course.wall_offset, &Zone::local()),
        };
        self.print(&lines)
    }

    pub(super) fn explain(&self) -> anyhow::Result<ExitCode> {
        let course = self.course()?;
        let lines = match self.json {
            true => vec![export::explain_json(
                &course.line,
                course.wall_offset,
                &course.host,
            )],
            false => export::explain(&course.line, course.wall_offset, &Zone::local()),
        };
        self.print(&lines)
    }

    fn print(&self, lines: &[String]) -> anyhow::Result<ExitCode> {
        let mut out = Printer::new(self.json, self.bytes);
        lines.iter().try_for_each(|line| out.line(line))?;
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }

    fn course(&self) -> anyhow::Result<Course> {
        let mut courses = Courses::default();
        let Some(path) = &self.file else {
            let told = Courses::told(self.attach.path(), &self.session);
            return told.map_err(|error| match error.downcast_ref() {
                Some(ClientError::NoDaemon(..)) => error.context(
                    "only a daemon keeps past sessions; to read a recording: --file RECORDING",
                ),
                _ => error,
            });
        };
        let mut reader = Reader::open(path).with_context(|| path.display().to_string())?;
        while let Some(record) = reader.next().with_context(|| path.display().to_string())? {
            courses.apply(record);
        }
        courses.find(&self.session)
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

/// A session's course, and what its times and its host are.
pub struct Course {
    pub line: Timeline,
    wall_offset: u64,
    host: String,
}

/// The courses of all sessions of some records.
pub struct Courses {
    model: Model,
    lines: Timelines,
    updates: Vec<Update>,
    wall_offset: u64,
    host: String,
}

impl Default for Courses {
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

impl Courses {
    /// What the daemon keeps of a session.
    pub fn told(socket: &Path, session: &str) -> anyhow::Result<Course> {
        let (name, records) = records(socket, session)?;
        let mut courses = Self::default();
        records.iter().for_each(|record| courses.apply(record));
        courses.find(&name)
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
    fn find(self, wanted: &str) -> anyhow::Result<Course> {
        let is_meant = |session: &SessionView| {
            session.id.to_string() == wanted || session.id.pid().to_string() == wanted
        };
        let lines = self.lines.open().chain(self.lines.closed());
        let found = lines
            .filter(|line| is_meant(&line.session))
            .max_by_key(|line| line.session.opened)
            .cloned();
        let line = found.with_context(|| {
            format!("no session {wanted} is there: `lastbyte ls` lists those that are")
        })?;
        Ok(Course {
            line,
            wall_offset: self.wall_offset,
            host: self.host,
        })
    }
}
