//! The writer's thread of the flight recorder: one transaction after the other.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use rusqlite::params;
use zstd::bulk::Compressor;

use super::{
    Error, Policy, StoreHealth, UnfinishedSessions, chunks,
    database::Database,
    pending::{Change, Key, Pending, Run, Work},
    retention,
    rows::{self, ChangeWriter},
};

/// Chunks of an open session that are merged into one.
const MANY: u32 = 64;
/// Time from a failure to the next attempt.
const RETRY: Duration = Duration::from_secs(2);
/// Time from a failure to open the database to the next attempt.
const REOPEN: Duration = Duration::from_secs(30);
/// How often old sessions are looked for.
const SWEEP: Duration = Duration::from_secs(30);

pub(super) struct Writer {
    pending: Arc<Pending>,
    directory: PathBuf,
    policy: Policy,
    database: Option<Database>,
    /// Key of the last session in the database when it was opened.
    base: Option<i64>,
    run: Option<Run>,
    run_key: Option<i64>,
    /// The database was replaced by a new one while sessions were open.
    replaced: bool,
    /// The store is full of sessions that may not be deleted.
    full: bool,
    compressor: Option<Compressor<'static>>,
    /// How many chunks each open session has since they were merged.
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
            replaced: false,
            full: false,
            compressor: chunks::compressor().ok(),
            chunks: HashMap::new(),
            boot,
            swept: None,
        })
    }

    /// Writes until there will be no more work.
    pub fn run(mut self) {
        while let Some(work) = self.pending.take(SWEEP) {
            let idle = work.is_empty();
            self.policy = work.policy.unwrap_or(self.policy);
            match self.write(&work) {
                Ok(()) => {
                    let health = match self.full {
                        true => StoreHealth::Full,
                        false => StoreHealth::Good,
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
            // The write-ahead log is valid as it is, so a failure does not matter.
            let _ = database.connection.execute_batch("PRAGMA optimize;");
        }
    }

    /// Notes a failure, and replaces a damaged database. Returns how long to wait until the next attempt.
    fn failed(&mut self, error: &Error) -> Duration {
        if self.database.is_none() {
            let what = error.to_string();
            self.pending.set_health(StoreHealth::Unopened { what });
            return REOPEN;
        }
        let what = error.to_string();
        self.pending.set_health(StoreHealth::Failing { what });
        if error.is_corruption()
            && let Some(database) = &mut self.database
        {
            match database.begin_anew() {
                Ok(()) => {
                    self.log_set_aside();
                    self.replaced = true;
                    self.run_key = None;
                    self.chunks.clear();
                    return Duration::ZERO;
                }
                // The next attempt opens whatever is there.
                Err(_) => self.database = None,
            }
        }
        RETRY
    }

    fn log_set_aside(&mut self) {
        if let Some(database) = &mut self.database
            && let Some(aside) = database.set_aside.take()
        {
            log::error!(
                "store: {} was damaged and is now {}; a new database was created. Recover what can be read with \
                 sqlite3 FILE .recover",
                database.path.display(),
                aside.display()
            );
        }
    }

    fn write(&mut self, work: &Work) -> Result<(), Error> {
        if self.database.is_none() {
            let mut database = Database::open(&self.directory)?;
            // It is too late to resume the sessions that are open in it.
            let open = UnfinishedSessions::find(&mut database, &self.boot)?;
            let open: Vec<i64> = open.sessions.iter().map(|session| session.key).collect();
            let tx = database.connection.transaction()?;
            rows::interrupt(&tx, &open)?;
            tx.commit()?;
            self.base = Some(self.base.unwrap_or(last_key(&database)?));
            self.database = Some(database);
            self.run_key = None;
        }
        self.log_set_aside();
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
                Some(chunks::compressor().map_err(|error| Error::Damaged(error.to_string()))?);
        }
        let Some(compressor) = &mut self.compressor else {
            return Ok(());
        };
        let tx = database.connection.transaction()?;
        let mut run_key = self.run_key;
        if run_key.is_none()
            && let Some(run) = &self.run
        {
            run_key = Some(rows::begin_run(&tx, run)?);
        }
        rows::interrupt(&tx, &work.interrupted)?;
        for (key, change) in &work.changes {
            let at = *key;
            let key = match at {
                Key::Kept(key) => key,
                Key::New(n) => self.base.unwrap_or(0).saturating_add(n),
            };
            let ends = change.closed.is_some();
            let change = ChangeWriter {
                tx: &tx,
                key,
                run: run_key.unwrap_or(0),
                change,
                // The new database has nothing of it yet.
                is_new_database: self.replaced,
                keeps_records: !self.full,
            };
            change.row()?;
            change.findings()?;
            // A session of an earlier recorder has some already.
            let chunks = self.chunks.entry(at).or_insert(match at {
                Key::Kept(_) => 1,
                Key::New(_) => 0,
            });
            *chunks += change.records(compressor)?;
            if *chunks >= MANY || ends && *chunks > 1 {
                chunks::merge(&tx, key, compressor)?;
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
                "store: {} findings and session ends were dropped for lack of room",
                work.dropped
            );
        }
        let ended = |(key, change): (&Key, &Change)| change.closed.is_some().then_some(*key);
        for key in work.changes.iter().filter_map(ended) {
            self.chunks.remove(&key);
        }
        Ok(())
    }

    /// Deletes sessions that are too old, or too many.
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

fn last_key(database: &Database) -> Result<i64, Error> {
    let last = "SELECT coalesce(max(key), 0) FROM session";
    let key = database.connection.query_row(last, [], |row| row.get(0))?;
    Ok(key)
}

/// The wall clock, ns since 1970.
pub(super) fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_nanos()).unwrap_or(i64::MAX))
}

/// A time of `CLOCK_BOOTTIME` by the wall clock, ns since 1970.
pub(super) fn wall(time: u64, offset: u64) -> i64 {
    time.wrapping_add(offset).cast_signed()
}
