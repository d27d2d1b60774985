//! The writer's thread: one transaction after the other.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use rusqlite::{OptionalExtension as _, Transaction, params};
use tracer_ebpf::ABI_VERSION;
use zstd::bulk::Compressor;

use super::{
    Error, Health, Left, Policy,
    database::Database,
    pending::{Change, Key, Pending, Run, Work},
    retention,
};
use crate::model::{Closed, Finding, GapReason, Kind};

/// How hard records are compressed.
const LEVEL: i32 = 3;
/// Chunks of an open session that are merged.
const MANY: u32 = 64;
/// Bytes of records that one chunk has at most.
const CHUNK: usize = 1 << 20;
/// From a failure to the next attempt.
const RETRY: Duration = Duration::from_secs(2);
/// From one failure to open the database to the next attempt.
const REOPEN: Duration = Duration::from_secs(30);
/// How often what has grown old is looked for.
const SWEEP: Duration = Duration::from_secs(30);

pub(super) struct Writer {
    pending: Arc<Pending>,
    directory: PathBuf,
    policy: Policy,
    database: Option<Database>,
    /// Key of the last session that was there when the database was opened.
    base: Option<i64>,
    run: Option<Run>,
    run_key: Option<i64>,
    /// A new database was begun while sessions were open.
    begun_anew: bool,
    full: bool,
    compressor: Option<Compressor<'static>>,
    /// Chunks since they were merged, of open sessions.
    chunks: HashMap<Key, u32>,
    boot: String,
    swept: Option<Instant>,
}

impl Writer {
    pub fn new(
        pending: Arc<Pending>,
        directory: PathBuf,
        policy: Policy,
        boot: String,
        database: Option<Database>,
    ) -> Result<Self, Error> {
        let base = database.as_ref().map(last_key).transpose()?;
        Ok(Self {
            pending,
            directory,
            policy,
            database,
            base,
            run: None,
            run_key: None,
            begun_anew: false,
            full: false,
            compressor: compressor().ok(),
            chunks: HashMap::new(),
            boot,
            swept: None,
        })
    }

    /// Writes until there will be nothing more.
    pub fn run(mut self) {
        while let Some(work) = self.pending.take(SWEEP) {
            let idle = work.is_empty();
            self.policy = work.policy.unwrap_or(self.policy);
            match self.write(&work) {
                Ok(()) => {
                    let health = match self.full {
                        true => Health::Full,
                        false => Health::Good,
                    };
                    self.pending.set_health(health);
                }
                Err(error) => {
                    let pause = self.failed(&error);
                    if !self.pending.failed(work, pause) {
                        return;
                    }
                    continue;
                }
            }
            if let Err(error) = self.retain(idle) {
                self.failed(&error);
            }
            self.pending.committed(&work);
        }
        if let Some(database) = &self.database {
            // What is left in the log is good as it is.
            let _ = database.connection.execute_batch("PRAGMA optimize;");
        }
    }

    /// Says that something failed, and does what can be done; gives how long to wait.
    fn failed(&mut self, error: &Error) -> Duration {
        if self.database.is_none() {
            let what = error.to_string();
            self.pending.set_health(Health::Unopened { what });
            return REOPEN;
        }
        let what = error.to_string();
        self.pending.set_health(Health::Failing { what });
        if error.is_corruption()
            && let Some(database) = &mut self.database
        {
            match database.begin_anew() {
                Ok(()) => {
                    self.tell_set_aside();
                    self.begun_anew = true;
                    self.run_key = None;
                    self.chunks.clear();
                    return Duration::ZERO;
                }
                // Whatever is there now, it is to be opened like any other.
                Err(_) => self.database = None,
            }
        }
        RETRY
    }

    fn tell_set_aside(&mut self) {
        if let Some(database) = &mut self.database
            && let Some(aside) = database.set_aside.take()
        {
            log::error!(
                "{} was damaged; it is now {}, and a new one is begun: what was kept of the past is there, as \
                 far as it can be read (sqlite3 FILE .recover)",
                database.path.display(),
                aside.display()
            );
        }
    }

    fn write(&mut self, work: &Work) -> Result<(), Error> {
        if self.database.is_none() {
            let mut database = Database::open(&self.directory)?;
            // It is too late to go on with those.
            let left = Left::find(&mut database, &self.boot)?;
            let left: Vec<i64> = left.sessions.iter().map(|left| left.key).collect();
            let tx = database.connection.transaction()?;
            interrupt(&tx, &left)?;
            tx.commit()?;
            self.base = Some(self.base.unwrap_or(last_key(&database)?));
            self.database = Some(database);
            self.run_key = None;
        }
        self.tell_set_aside();
        if work.is_empty() {
            return Ok(());
        }
        if work.run.is_some() {
            self.run.clone_from(&work.run);
            self.run_key = None;
        }
        let Some(database) = &mut self.database else {
            return Ok(());
        };
        if self.compressor.is_none() {
            self.compressor =
                Some(compressor().map_err(|error| Error::Damaged(error.to_string()))?);
        }
        let Some(compressor) = &mut self.compressor else {
            return Ok(());
        };
        let tx = database.connection.transaction()?;
        let mut run_key = self.run_key;
        if run_key.is_none()
            && let Some(run) = &self.run
        {
            run_key = Some(begin_run(&tx, run)?);
        }
        interrupt(&tx, &work.interrupted)?;
        for (key, change) in &work.changes {
            let at = *key;
            let key = match at {
                Key::Kept(key) => key,
                Key::New(n) => self.base.unwrap_or(0).saturating_add(n),
            };
            let ends = change.closed.is_some();
            let change = Written {
                tx: &tx,
                key,
                run: run_key.unwrap_or(0),
                change,
                // Of what was kept of it nothing is here.
                all: self.begun_anew,
                keeps_records: !self.full,
            };
            change.row()?;
            change.findings()?;
            // Of a session that another recorder began there are some already.
            let chunks = self.chunks.entry(at).or_insert(match at {
                Key::Kept(_) => 1,
                Key::New(_) => 0,
            });
            *chunks += change.records(compressor)?;
            if *chunks >= MANY || ends && *chunks > 1 {
                merge(&tx, key, compressor)?;
                *chunks = 1;
            }
            change.end()?;
        }
        if let Some(progress) = work.progress {
            tx.execute(
                "INSERT OR REPLACE INTO kept (key, boot, time, progress) VALUES (0, ?, ?, ?)",
                params![self.boot, now(), progress.cast_signed()],
            )?;
        }
        tx.commit()?;
        self.run_key = run_key;
        if work.dropped > 0 {
            log::error!(
                "the flight recorder had no room for {} findings and ends of sessions",
                work.dropped
            );
        }
        let ended = |(key, change): (&Key, &Change)| change.closed.is_some().then_some(*key);
        for key in work.changes.iter().filter_map(ended) {
            self.chunks.remove(&key);
        }
        Ok(())
    }

    /// Lets go of what has grown too old or too much.
    fn retain(&mut self, idle: bool) -> Result<(), Error> {
        let Some(database) = &mut self.database else {
            return Ok(());
        };
        let due = self.swept.is_none_or(|at| at.elapsed() >= SWEEP);
        if idle || due {
            self.swept = Some(Instant::now());
            retention::age(database, &self.policy, now())?;
        }
        self.full = !retention::shrink(database, &self.policy)?;
        Ok(())
    }
}

fn compressor() -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))?;
    Ok(compressor)
}

fn last_key(database: &Database) -> Result<i64, Error> {
    let last = "SELECT coalesce(max(key), 0) FROM session";
    let key = database.connection.query_row(last, [], |row| row.get(0))?;
    Ok(key)
}

fn begin_run(tx: &Transaction<'_>, run: &Run) -> Result<i64, Error> {
    let start = &run.start;
    tx.execute(
        "INSERT INTO run (boot, started, wall_offset, grace, host, kernel, backend) VALUES (?, ?, ?, ?, ?, ?, ?)",
        params![
            run.boot,
            wall(start.time, start.wall_offset),
            start.wall_offset.cast_signed(),
            start.grace.cast_signed(),
            start.host.as_str(),
            start.kernel.as_str(),
            start.backend,
        ],
    )?;
    Ok(tx.last_insert_rowid())
}

/// Marks sessions as ones that nobody goes on with.
pub(super) fn interrupt(tx: &Transaction<'_>, keys: &[i64]) -> Result<(), Error> {
    if keys.is_empty() {
        return Ok(());
    }
    let kept: Option<i64> = tx
        .query_row("SELECT time FROM kept", [], |row| row.get(0))
        .optional()?;
    let mut update = tx.prepare(
        "UPDATE session SET state = 'interrupted', closed = coalesce(?2, opened), verdict = 'unknown', gaps = ?3
         WHERE key = ?1 AND state = 'open'",
    )?;
    for key in keys {
        update.execute(params![key, kept, GapReason::Interrupted.name()])?;
    }
    Ok(())
}

/// One change as it is written.
struct Written<'a> {
    tx: &'a Transaction<'a>,
    key: i64,
    run: i64,
    change: &'a Change,
    all: bool,
    keeps_records: bool,
}

impl Written<'_> {
    fn row(&self) -> Result<(), Error> {
        let change = self.change;
        let is_there = || {
            let there = "SELECT 1 FROM session WHERE key = ?";
            self.tx.query_row(there, [self.key], |_| Ok(())).optional()
        };
        let news = change.changed || self.all && is_there()?.is_none();
        if !news {
            return Ok(());
        }
        let view = &change.view;
        self.tx.execute(
            "INSERT INTO session (key, run, abi, id, text, pid, state, opened, user, uid, peer, server, command,
                                  lost, findings, bytes, view)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'open', ?7, ?8, ?9, ?10, ?11, ?12, ?13, 0, 0, ?14)
             ON CONFLICT (key) DO UPDATE SET user = ?8, uid = ?9, peer = ?10, server = ?11, command = ?12, view = ?14",
            params![
                self.key,
                self.run,
                ABI_VERSION,
                view.id.0.cast_signed(),
                view.id.to_string(),
                view.id.pid(),
                change.opened,
                view.user.as_deref(),
                view.uid,
                view.peer.map(|peer| peer.ip().to_string()),
                view.server_exe.as_str(),
                view.command.as_deref(),
                // Of a session that was there before the database something must be missing.
                u64::from(self.all).cast_signed(),
                json(&**view),
            ],
        )?;
        Ok(())
    }

    fn findings(&self) -> Result<(), Error> {
        if self.change.findings.is_empty() {
            return Ok(());
        }
        let mut insert = self.tx.prepare(
            "INSERT INTO finding (session, time, kind, state, stream, cause, bytes, told)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )?;
        for (time, finding) in &self.change.findings {
            insert.execute(params![
                self.key,
                time,
                finding.kind.name(),
                finding.state.name(),
                finding.stream.map(|slot| slot.name()),
                finding.cause.map(|cause| cause.name()),
                saturated(finding.bytes),
                json::<Finding>(finding),
            ])?;
        }
        let weighs = |(_, finding): &&(i64, Finding)| finding.kind != Kind::NearMiss;
        let weighty = self.change.findings.iter().filter(weighs).count();
        self.tx.execute(
            "UPDATE session SET findings = findings + ? WHERE key = ?",
            params![weighty as i64, self.key],
        )?;
        Ok(())
    }

    /// Gives how many chunks were written.
    fn records(&self, compressor: &mut Compressor<'static>) -> Result<u32, Error> {
        let (records, lost) = (&self.change.records, self.change.lost);
        let keeps = self.keeps_records && !records.is_empty();
        let lost = match self.keeps_records {
            true => lost,
            false => lost + super::records::split(records).count() as u64,
        };
        let (mut bytes, mut chunks) = (0, 0);
        if keeps {
            let mut seq: i64 = self.tx.query_row(
                "SELECT coalesce(max(seq), -1) + 1 FROM chunk WHERE session = ?",
                [self.key],
                |row| row.get(0),
            )?;
            // A reader holds one at a time.
            for part in super::records::parts(records, CHUNK) {
                bytes += chunk(self.tx, self.key, seq, part, compressor)?;
                (seq, chunks) = (seq + 1, chunks + 1);
            }
        }
        if bytes > 0 || lost > 0 {
            self.tx.execute(
                "UPDATE session SET bytes = bytes + ?, lost = lost + ? WHERE key = ?",
                params![bytes as i64, saturated(lost), self.key],
            )?;
        }
        Ok(chunks)
    }

    fn end(&self) -> Result<(), Error> {
        let Some((time, closed)) = &self.change.closed else {
            return Ok(());
        };
        let gaps: Vec<&str> = closed.gaps.iter().map(|gap| gap.name()).collect();
        self.tx.execute(
            "UPDATE session SET state = 'closed', closed = ?, verdict = ?, gaps = ?, told = ?, view = NULL WHERE key = ?",
            params![
                time,
                closed.verdict.name(),
                gaps.join(" "),
                json::<Closed>(closed),
                self.key
            ],
        )?;
        Ok(())
    }
}

/// Writes a chunk; gives its bytes.
fn chunk(
    tx: &Transaction<'_>,
    session: i64,
    seq: i64,
    records: &[u8],
    compressor: &mut Compressor<'static>,
) -> Result<usize, Error> {
    let packed = compressor
        .compress(records)
        .map_err(|error| Error::Damaged(error.to_string()))?;
    tx.execute(
        "INSERT INTO chunk (session, seq, raw, records) VALUES (?, ?, ?, ?)",
        params![session, seq, records.len() as i64, packed],
    )?;
    Ok(packed.len())
}

/// Makes few chunks of many.
fn merge(
    tx: &Transaction<'_>,
    session: i64,
    compressor: &mut Compressor<'static>,
) -> Result<(), Error> {
    let mut query = tx.prepare("SELECT seq, raw FROM chunk WHERE session = ? ORDER BY seq")?;
    let chunks = query.query_map([session], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let chunks: Vec<(i64, i64)> = chunks.collect::<Result<_, _>>()?;
    let mut groups: Vec<(usize, Vec<i64>)> = Vec::new();
    for (seq, raw) in chunks {
        let raw = usize::try_from(raw).unwrap_or(CHUNK);
        match groups.last_mut() {
            Some((bytes, group)) if *bytes + raw <= CHUNK => {
                *bytes += raw;
                group.push(seq);
            }
            _ => groups.push((raw, vec![seq])),
        }
    }
    for (bytes, group) in groups.into_iter().filter(|(_, group)| group.len() > 1) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        let mut records = Vec::with_capacity(bytes);
        let mut query = tx.prepare(
            "SELECT raw, records FROM chunk WHERE session = ? AND seq BETWEEN ? AND ? ORDER BY seq",
        )?;
        let mut rows = query.query(params![session, first, last])?;
        while let Some(row) = rows.next()? {
            records.extend(unpack(
                row.get(0)?,
                row.get_ref(1)?.as_blob().unwrap_or_default(),
            )?);
        }
        let within = params![session, first, last];
        tx.execute(
            "DELETE FROM chunk WHERE session = ? AND seq BETWEEN ? AND ?",
            within,
        )?;
        chunk(tx, session, *first, &records, compressor)?;
    }
    tx.execute(
        "UPDATE session SET bytes = (SELECT coalesce(sum(length(records)), 0) FROM chunk WHERE session = ?1)
         WHERE key = ?1",
        [session],
    )?;
    Ok(())
}

/// The records of a chunk.
pub(super) fn unpack(raw: i64, packed: &[u8]) -> Result<Vec<u8>, Error> {
    let damaged = |what: String| Error::Damaged(format!("a chunk of records: {what}"));
    let raw = usize::try_from(raw).map_err(|error| damaged(error.to_string()))?;
    let records =
        zstd::bulk::decompress(packed, raw).map_err(|error| damaged(error.to_string()))?;
    match records.len() == raw {
        true => Ok(records),
        false => Err(damaged(format!("{} of {raw} bytes", records.len()))),
    }
}

fn json<T: serde::Serialize>(of: &T) -> String {
    // Plain data, the keys of whose maps are text: it cannot fail.
    serde_json::to_string(of).unwrap_or_default()
}

/// Wall clock, ns.
pub(super) fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_nanos()).unwrap_or(i64::MAX))
}

/// A time of `CLOCK_BOOTTIME` by the wall clock, ns.
pub(super) fn wall(time: u64, offset: u64) -> i64 {
    time.wrapping_add(offset).cast_signed()
}

fn saturated(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
