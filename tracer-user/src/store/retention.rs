//! What is let go of, and in which order: sessions of which there is nothing to tell first, then the
//! records of those that have findings, findings last. Nothing that is open.

use rusqlite::params;

use super::{Error, database::Database};

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long sessions without findings are kept, and the records of those with, ns.
    pub max_age: u64,
    /// How long findings and their sessions are kept, ns.
    pub findings_max_age: u64,
    /// Bytes on disk, of the database and its write-ahead log.
    pub max_bytes: u64,
}

const DAY: u64 = 86_400_000_000_000;

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_age: 30 * DAY,
            findings_max_age: 365 * DAY,
            max_bytes: 1 << 30,
        }
    }
}

/// Sessions that are deleted at once, so that nothing else waits for long.
const STEP: u32 = 64;
/// Bytes of a session beside its records, about.
const ROW: u64 = 512;
/// Steps until other things are seen to.
const STEPS: usize = 16;
/// Free pages that are given back at once.
const PAGES: u32 = 1024;
/// Bytes that the write-ahead log has at most between two commits.
const LOG: u64 = 4 << 20;

/// In the order in which it is done.
#[derive(Clone, Copy)]
enum Step {
    Clean,
    Records,
    Findings,
}

impl Step {
    const ALL: [Self; 3] = [Self::Clean, Self::Records, Self::Findings];

    fn sessions(self) -> &'static str {
        match self {
            Self::Clean => "state <> 'open' AND findings = 0",
            Self::Records => "state <> 'open' AND findings > 0 AND bytes > 0",
            Self::Findings => "state <> 'open' AND findings > 0 AND bytes = 0",
        }
    }

    /// Does it for the oldest that ended before, until so many bytes are free; gives how many there were.
    fn take(self, database: &mut Database, before: i64, bytes: u64) -> Result<usize, Error> {
        let tx = database.connection.transaction()?;
        let oldest = format!(
            "SELECT key, bytes FROM session WHERE {} AND closed < ? ORDER BY closed LIMIT ?",
            self.sessions()
        );
        let mut keys = Vec::new();
        let mut free = 0;
        let mut query = tx.prepare(&oldest)?;
        let mut rows = query.query(params![before, STEP])?;
        while free < bytes
            && let Some(row) = rows.next()?
        {
            let (key, of_records): (i64, i64) = (row.get(0)?, row.get(1)?);
            keys.push(key);
            free += of_records.cast_unsigned() + ROW;
        }
        drop(rows);
        drop(query);
        for key in &keys {
            tx.execute("DELETE FROM chunk WHERE session = ?", [key])?;
            match self {
                Self::Records => {
                    tx.execute("UPDATE session SET bytes = 0 WHERE key = ?", [key])?;
                }
                Self::Clean | Self::Findings => {
                    tx.execute("DELETE FROM finding WHERE session = ?", [key])?;
                    tx.execute("DELETE FROM session WHERE key = ?", [key])?;
                }
            }
        }
        tx.commit()?;
        Ok(keys.len())
    }
}

/// Lets go of what is older than it may be; `now` by the wall clock, ns.
pub(super) fn age(database: &mut Database, policy: &Policy, now: i64) -> Result<(), Error> {
    for step in Step::ALL {
        let age = match step {
            Step::Findings => policy.findings_max_age,
            Step::Clean | Step::Records => policy.max_age,
        };
        let before = now.saturating_sub(i64::try_from(age).unwrap_or(i64::MAX));
        for _ in 0..STEPS {
            if step.take(database, before, u64::MAX)? < STEP as usize {
                break;
            }
        }
    }
    give_back(database)
}

/// Lets go of the oldest until the rest has room. False when what may be let go of was not enough.
pub(super) fn shrink(database: &mut Database, policy: &Policy) -> Result<bool, Error> {
    let log = LOG.min(policy.max_bytes / 4);
    for _ in 0..STEPS {
        if used(database)? + log <= policy.max_bytes && database.size() <= policy.max_bytes {
            return Ok(true);
        }
        give_back(database)?;
        if used(database)? + log <= policy.max_bytes {
            continue;
        }
        let mut taken = 0;
        let over = (used(database)? + log).saturating_sub(policy.max_bytes);
        for step in Step::ALL {
            taken = step.take(database, i64::MAX, over)?;
            if taken > 0 {
                break;
            }
        }
        give_back(database)?;
        if taken == 0 {
            return Ok(used(database)? + log <= policy.max_bytes);
        }
    }
    Ok(true)
}

/// Bytes of the database itself, once the log is copied into it.
fn used(database: &Database) -> Result<u64, Error> {
    let number = |pragma| {
        let number = database
            .connection
            .pragma_query_value(None, pragma, |row| row.get(0));
        number.map(|n: i64| n.cast_unsigned())
    };
    Ok(number("page_count")? * number("page_size")?)
}

/// Makes the files smaller by what is free in them.
fn give_back(database: &Database) -> Result<(), Error> {
    let connection = &database.connection;
    let free: i64 = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    if free > 0 {
        let mut vacuum = connection.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
        // It frees a page with every step.
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
    }
    // Busy while somebody reads: then the next time.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}
