//! Queries of the database: sessions, findings, and the records of a session.

use std::{ops::ControlFlow, path::Path};

use rusqlite::{Connection, Row, ToSql, params_from_iter};
use tracer_ebpf::ABI_VERSION;

use super::{Error, RecordList, database, unfinished};
use crate::model::{Closed, Finding, GapReason, SessionId, SessionView, State, Verdict};

/// Reads the database, also while a daemon writes it. For one thread: let each open its own.
#[derive(Debug)]
pub struct StoreReader {
    connection: Connection,
}

/// Which sessions or findings; `None` accepts everything. Times are ns of the wall clock.
#[derive(Clone, Debug, Default)]
pub struct StoreQuery {
    /// Login name.
    pub user: Option<String>,
    /// The client's address, without the port.
    pub peer: Option<String>,
    /// The word for a verdict, as [`crate::model::Verdict::name`] gives it.
    pub verdict: Option<String>,
    /// Not before this time: sessions by when they opened, findings by when they were made.
    pub since: Option<i64>,
    /// Before this time, in the same way.
    pub until: Option<i64>,
    /// Only sessions that were open at this time.
    pub at: Option<i64>,
    /// A part of the command.
    pub command: Option<String>,
    /// User id.
    pub uid: Option<u32>,
    /// Only sessions that have ended (true), or only open ones (false).
    pub ended: Option<bool>,
    /// The kind of a finding, as [`crate::model::Kind::name`] gives it.
    pub kind: Option<String>,
    /// Only findings that began something and are not routine ([`Finding::is_routine`]).
    pub notable_only: bool,
    /// Only the newest N.
    pub limit: Option<u32>,
}

/// How a session ended, if it has.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is open.
    Open(SessionView),
    /// It ended.
    Closed(Closed),
    /// Tracing ended while it was open.
    Interrupted(SessionView),
}

impl Outcome {
    /// The session.
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
    /// Its key in the database; never reused.
    pub key: i64,
    /// The boot that its id is of (/proc/sys/kernel/random/boot_id).
    pub boot: String,
    /// Name of the machine.
    pub host: String,
    /// Wall clock minus `CLOCK_BOOTTIME` when tracing began, ns.
    pub wall_offset: u64,
    /// When it opened, wall clock, ns.
    pub opened: i64,
    /// When it ended, or was last written if its end was not seen; `None` while it is open. Wall clock, ns.
    pub closed: Option<i64>,
    /// The session, and how it ended.
    pub outcome: Outcome,
    /// How many records are missing: a replay is incomplete.
    pub lost: u64,
    /// How many findings, without near misses.
    pub findings: u64,
    /// Bytes of its compressed records; 0 if they were deleted.
    pub bytes: u64,
}

impl Kept {
    /// Its id, unique across boots: `4711-1k2j3@9f3c2a10`. What follows the `@` is the beginning of the
    /// boot's id. [`StoreReader::session`] finds it.
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
    /// When it was made, wall clock, ns.
    pub time: i64,
    /// The finding.
    pub finding: Finding,
}

const SESSIONS: &str = "SELECT session.key, boot, host, wall_offset, opened, closed, state, view, told, lost, findings,
    bytes FROM session LEFT JOIN run ON run.key = session.run";

impl StoreReader {
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
    pub fn sessions(&self, filter: &StoreQuery) -> Result<Vec<Kept>, Error> {
        let mut query = Sql::new(SESSIONS, "opened", filter);
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
    pub fn findings(&self, filter: &StoreQuery) -> Result<Vec<KeptFinding>, Error> {
        let from = "SELECT finding.session, time, finding.told FROM finding JOIN session ON session.key = finding.session";
        let mut query = Sql::new(from, "time", filter);
        if let Some(kind) = &filter.kind {
            query.only("kind = ?", kind.clone());
        }
        if filter.notable_only {
            query.only("finding.state = ?", State::Open.name());
        }
        let limit = match filter.notable_only {
            true => query.limit.take(),
            false => None,
        };
        let mut rows = self.connection.prepare(&query.text("time"))?;
        let mut rows = rows.query(params_from_iter(&query.values))?;
        let limit = limit.map_or(usize::MAX, |limit| limit as usize);
        let mut findings = Vec::new();
        while findings.len() < limit
            && let Some(row) = rows.next()?
        {
            let found = kept_finding(row)?;
            if !(filter.notable_only && found.finding.is_routine()) {
                findings.push(found);
            }
        }
        Ok(findings)
    }

    /// The findings of one session, in the order in which they were made.
    ///
    /// # Errors
    /// [`Error::Sqlite`], [`Error::Damaged`].
    pub fn findings_of(&self, session: i64) -> Result<Vec<KeptFinding>, Error> {
        let text = "SELECT session, time, told FROM finding WHERE session = ? ORDER BY key";
        let mut rows = self.connection.prepare(text)?;
        let findings = rows.query_and_then([session], kept_finding)?;
        findings.collect()
    }

    /// The records of a session, for a new model; of an open session, those that are written so far.
    ///
    /// # Errors
    /// [`Error::OtherRecords`], [`Error::Sqlite`], [`Error::Damaged`].
    pub fn records(&self, session: i64) -> Result<RecordList, Error> {
        let mut records = RecordList::default();
        self.each_chunk(session, |bytes| {
            records.extend(bytes);
            ControlFlow::Continue(())
        })?;
        Ok(records)
    }

    /// Calls `each` with one chunk of a session's records after the other, each of whole records, for a
    /// session that is too large to hold at once. Until the end, or `ControlFlow::Break`, SQLite cannot
    /// shorten its write-ahead log.
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
        unfinished::each_chunk(&self.connection, session, each)
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
}

fn kept_finding(row: &Row<'_>) -> Result<KeptFinding, Error> {
    Ok(KeptFinding {
        session: row.get(0)?,
        time: row.get(1)?,
        finding: parsed(row, 2)?,
    })
}

/// The SQL of a [`StoreQuery`].
struct Sql {
    text: String,
    values: Vec<Box<dyn ToSql>>,
    limit: Option<u32>,
}

impl Sql {
    fn new(from: &str, time: &str, filter: &StoreQuery) -> Self {
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
        if let Some(ended) = filter.ended {
            query.only("(session.state <> 'open') = ?", ended);
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
    serde_json::from_str(text)
        .map_err(|error| Error::Damaged(format!("a stored session or finding: {error}")))
}
