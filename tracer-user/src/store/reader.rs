//! Answers from what is kept.

use std::{ops::ControlFlow, path::Path};

use rusqlite::{Connection, Row, ToSql, params_from_iter};
use tracer_ebpf::ABI_VERSION;

use super::{Error, Records, database, left};
use crate::model::{
    Cause, Closed, Finding, GapReason, Kind, SessionId, SessionView, State, Verdict,
};

/// Reads what is kept, beside whoever writes it. For one thread: let each open its own.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
}

/// Which sessions or findings; what is `None` does not matter. Times are ns of the wall clock.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Login name.
    pub user: Option<String>,
    /// The client's address, without the port.
    pub peer: Option<String>,
    /// The word for a verdict, as [`crate::model::Verdict::name`] gives it.
    pub verdict: Option<String>,
    /// Not before: sessions by their opening, findings by when they were told.
    pub since: Option<i64>,
    /// Before.
    pub until: Option<i64>,
    /// Sessions that were open then, findings that were not resolved.
    pub at: Option<i64>,
    /// A part of the command.
    pub command: Option<String>,
    /// User id.
    pub uid: Option<u32>,
    /// Only sessions that are over, or only those that are not.
    pub over: Option<bool>,
    /// The kind of a finding, as [`crate::model::Kind::name`] gives it.
    pub kind: Option<String>,
    /// Of findings only the beginnings, and not what clients and commands do all day.
    pub news_only: bool,
    /// Only the last so many.
    pub limit: Option<u32>,
}

/// How far a session has come.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is open, as far as known.
    Open(SessionView),
    /// It is over.
    Closed(Closed),
    /// Tracing ended while it was open.
    Interrupted(SessionView),
}

impl Outcome {
    /// Who the session is.
    #[must_use]
    pub fn view(&self) -> &SessionView {
        match self {
            Self::Open(view) | Self::Interrupted(view) => view,
            Self::Closed(closed) => &closed.session,
        }
    }
}

/// A session that is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Names it here, for good.
    pub key: i64,
    /// The boot that its id is of (/proc/sys/kernel/random/boot_id).
    pub boot: String,
    /// Name of the machine.
    pub host: String,
    /// Wall clock minus `CLOCK_BOOTTIME` when tracing began, ns.
    pub wall_offset: u64,
    /// When it opened, ns of the wall clock.
    pub opened: i64,
    /// When it ended, or was last kept; `None` while it is open.
    pub closed: Option<i64>,
    /// How far it has come, and who it is.
    pub outcome: Outcome,
    /// Records that are missing: what comes of a replay is not the whole story.
    pub lost: u64,
    /// Findings, near misses apart.
    pub findings: u64,
    /// Bytes that its records take; 0 when they are not kept any more.
    pub bytes: u64,
}

impl Kept {
    /// Its id, unique across boots: `4711-1k2j3@9f3c2a10`. What follows the `@` is the beginning of the
    /// boot's id. [`Reader::session`] finds it.
    #[must_use]
    pub fn name(&self) -> String {
        let boot = self.boot.get(..8).unwrap_or(&self.boot);
        format!("{}@{boot}", self.outcome.view().id)
    }

    /// The word for its verdict; `None` while it is open.
    #[must_use]
    pub fn verdict(&self) -> Option<&'static str> {
        match &self.outcome {
            Outcome::Open(_) => None,
            Outcome::Closed(closed) => Some(closed.verdict.name()),
            Outcome::Interrupted(_) => Some(Verdict::Unknown.name()),
        }
    }

    /// Why evidence is missing.
    #[must_use]
    pub fn gaps(&self) -> &[GapReason] {
        match &self.outcome {
            Outcome::Open(_) => &[],
            Outcome::Closed(closed) => &closed.gaps,
            Outcome::Interrupted(_) => &[GapReason::Interrupted],
        }
    }
}

/// A finding that is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptFinding {
    /// The session's [`Kept::key`].
    pub session: i64,
    /// When it was told, ns of the wall clock.
    pub time: i64,
    /// What was told.
    pub finding: Finding,
}

const SESSIONS: &str = "SELECT session.key, boot, host, wall_offset, opened, closed, state, view, told, lost, findings,
    bytes FROM session LEFT JOIN run ON run.key = session.run";

impl Reader {
    /// Opens the database in the state directory.
    ///
    /// # Errors
    /// [`Error::Place`], [`Error::Foreign`], [`Error::Newer`], [`Error::Sqlite`].
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let connection = database::open_to_read(directory)?;
        Ok(Self { connection })
    }

    /// Sessions, the newest first; open ones too.
    ///
    /// # Errors
    /// [`Error::Sqlite`], [`Error::Damaged`].
    pub fn sessions(&self, filter: &Filter) -> Result<Vec<Kept>, Error> {
        let mut query = Query::new(SESSIONS, "opened", filter);
        if let Some(kind) = &filter.kind {
            let some =
                "EXISTS (SELECT 1 FROM finding WHERE finding.session = session.key AND kind = ?)";
            query.only(some, kind.clone());
        }
        if let Some(at) = filter.at {
            query.only("opened <= ?", at);
            query.only("(closed IS NULL OR closed > ?)", at);
        }
        self.query(&query.text("opened"), &query.values)
    }

    /// The session that `text` names: its id, alone or as [`Kept::name`] gives it, the beginning of its
    /// id, or the pid of its leader. Of several the newest.
    ///
    /// # Errors
    /// [`Error::Sqlite`], [`Error::Damaged`].
    pub fn session(&self, text: &str) -> Result<Option<Kept>, Error> {
        let (id, boot) = text.split_once('@').unwrap_or((text, ""));
        if id.is_empty() {
            return Ok(None);
        }
        if let Ok(SessionId(number)) = id.parse()
            && let Some(kept) = self.newest("id = ?1", Box::new(number.cast_signed()), boot)?
        {
            return Ok(Some(kept));
        }
        if let Ok(pid) = id.parse::<u32>() {
            return self.newest("pid = ?1", Box::new(pid), boot);
        }
        let begins = "substr(text, 1, length(?1)) = ?1";
        self.newest(begins, Box::new(id.to_owned()), boot)
    }

    /// The session with this [`Kept::key`].
    ///
    /// # Errors
    /// [`Error::Sqlite`], [`Error::Damaged`].
    pub fn session_by_key(&self, key: i64) -> Result<Option<Kept>, Error> {
        let text = format!("{SESSIONS} WHERE session.key = ?");
        Ok(self.query(&text, &[Box::new(key)])?.pop())
    }

    fn newest(
        &self,
        which: &str,
        value: Box<dyn ToSql>,
        boot: &str,
    ) -> Result<Option<Kept>, Error> {
        let text = format!(
            "{SESSIONS} WHERE {which} AND substr(coalesce(boot, ''), 1, length(?2)) = ?2
             ORDER BY opened DESC, session.key DESC LIMIT 1"
        );
        Ok(self
            .query(&text, &[value, Box::new(boot.to_owned())])?
            .pop())
    }

    /// Findings, the newest first.
    ///
    /// # Errors
    /// [`Error::Sqlite`], [`Error::Damaged`].
    pub fn findings(&self, filter: &Filter) -> Result<Vec<KeptFinding>, Error> {
        let from = "SELECT finding.session, time, finding.told FROM finding JOIN session ON session.key = finding.session";
        let mut query = Query::new(from, "time", filter);
        if let Some(kind) = &filter.kind {
            query.only("kind = ?", kind.clone());
        }
        if filter.news_only {
            query.only("finding.state = ?", State::Open.name());
            query.only("kind <> ?", Kind::NearMiss.name());
            query.only("coalesce(cause, '') <> ?", Cause::ClientGone.name());
            query.only("coalesce(json_extract(finding.told, '$.quiet'), 0) = ?", 0);
        }
        self.told(&query.text("time"), &query.values)
    }

    /// The findings of one session, in the order in which they were told.
    ///
    /// # Errors
    /// [`Error::Sqlite`], [`Error::Damaged`].
    pub fn findings_of(&self, session: i64) -> Result<Vec<KeptFinding>, Error> {
        let text = "SELECT session, time, told FROM finding WHERE session = ? ORDER BY key";
        self.told(text, &[Box::new(session)])
    }

    /// The records of a session: a road of its own, for a model that has seen nothing yet. Of an open one
    /// those that are written so far.
    ///
    /// # Errors
    /// [`Error::OtherRecords`], [`Error::Sqlite`], [`Error::Damaged`].
    pub fn records(&self, session: i64) -> Result<Records, Error> {
        let mut records = Records::default();
        self.each_chunk(session, |bytes| {
            records.extend(bytes);
            ControlFlow::Continue(())
        })?;
        Ok(records)
    }

    /// The same piece by piece, each of whole records, for a session that is too large to be held at
    /// once; `ControlFlow::Break` ends it. The database keeps what is read until then.
    ///
    /// # Errors
    /// As [`Self::records`].
    pub fn each_chunk(
        &self,
        session: i64,
        each: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let abi = "SELECT abi FROM session WHERE key = ?";
        let found: i64 = self
            .connection
            .query_row(abi, [session], |row| row.get(0))?;
        if found != i64::from(ABI_VERSION) {
            return Err(Error::OtherRecords { found });
        }
        left::each_chunk(&self.connection, session, each)
    }

    fn query(&self, text: &str, values: &[Box<dyn ToSql>]) -> Result<Vec<Kept>, Error> {
        let mut query = self.connection.prepare(text)?;
        let mut rows = query.query(params_from_iter(values))?;
        let mut sessions = Vec::new();
        while let Some(row) = rows.next()? {
            sessions.push(kept(row)?);
        }
        Ok(sessions)
    }

    fn told(&self, text: &str, values: &[Box<dyn ToSql>]) -> Result<Vec<KeptFinding>, Error> {
        let mut query = self.connection.prepare(text)?;
        let mut rows = query.query(params_from_iter(values))?;
        let mut findings = Vec::new();
        while let Some(row) = rows.next()? {
            findings.push(KeptFinding {
                session: row.get(0)?,
                time: row.get(1)?,
                finding: parsed(row, 2)?,
            });
        }
        Ok(findings)
    }
}

/// A query that a filter narrows.
struct Query {
    text: String,
    values: Vec<Box<dyn ToSql>>,
    limit: Option<u32>,
}

impl Query {
    fn new(from: &str, time: &str, filter: &Filter) -> Self {
        let mut query = Self {
            text: from.to_owned(),
            values: Vec::new(),
            limit: filter.limit,
        };
        let texts = [
            ("user = ?", &filter.user),
            ("peer = ?", &filter.peer),
            ("verdict = ?", &filter.verdict),
            ("instr(command, ?) > 0", &filter.command),
        ];
        for (condition, value) in texts {
            if let Some(value) = value {
                query.only(condition, value.clone());
            }
        }
        if let Some(uid) = filter.uid {
            query.only("uid = ?", uid);
        }
        if let Some(over) = filter.over {
            query.only("(session.state <> 'open') = ?", over);
        }
        if let Some(since) = filter.since {
            query.only(&format!("{time} >= ?"), since);
        }
        if let Some(until) = filter.until {
            query.only(&format!("{time} < ?"), until);
        }
        query
    }

    fn only(&mut self, condition: &str, value: impl ToSql + 'static) {
        let word = if self.values.is_empty() {
            "WHERE"
        } else {
            "AND"
        };
        self.text += &format!(" {word} {condition}");
        self.values.push(Box::new(value));
    }

    fn text(&self, time: &str) -> String {
        let limit = self.limit.map_or(-1, i64::from);
        format!("{} ORDER BY {time} DESC LIMIT {limit}", self.text)
    }
}

fn kept(row: &Row<'_>) -> Result<Kept, Error> {
    let state: String = row.get(6)?;
    Ok(Kept {
        key: row.get(0)?,
        boot: row.get::<_, Option<String>>(1)?.unwrap_or_default(),
        host: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
        wall_offset: row.get::<_, Option<i64>>(3)?.unwrap_or(0).cast_unsigned(),
        opened: row.get(4)?,
        closed: row.get(5)?,
        outcome: match state.as_str() {
            "closed" => Outcome::Closed(parsed(row, 8)?),
            "open" => Outcome::Open(parsed(row, 7)?),
            _ => Outcome::Interrupted(parsed(row, 7)?),
        },
        lost: row.get::<_, i64>(9)?.cast_unsigned(),
        findings: row.get::<_, i64>(10)?.cast_unsigned(),
        bytes: row.get::<_, i64>(11)?.cast_unsigned(),
    })
}

fn parsed<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T, Error> {
    let text = row.get_ref(column)?;
    let text = text.as_str().unwrap_or_default();
    serde_json::from_str(text).map_err(|error| Error::Damaged(format!("what was told: {error}")))
}
