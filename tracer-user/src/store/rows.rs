//! The rows of the database: how runs, sessions and findings are written.

use rusqlite::{OptionalExtension as _, Transaction, params};
use tracer_ebpf::ABI_VERSION;
use zstd::bulk::Compressor;

use super::{
    Error, chunks,
    pending::{Change, Run},
    record_list,
    writer::wall,
};
use crate::model::{Closed, Finding, GapReason, Kind};

/// Adds a run of the tracer. Returns its key.
pub(super) fn begin_run(tx: &Transaction<'_>, run: &Run) -> Result<i64, Error> {
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

/// Marks open sessions as interrupted: their ends were not seen.
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

/// Writes what changed in one session.
pub(super) struct ChangeWriter<'a> {
    pub tx: &'a Transaction<'a>,
    /// The session's key.
    pub key: i64,
    /// Key of the tracer's run.
    pub run: i64,
    pub change: &'a Change,
    /// The database was created while the session was open: what came before is missing.
    pub is_new_database: bool,
    /// There is room for records.
    pub keeps_records: bool,
}

impl ChangeWriter<'_> {
    /// Writes its row, if that has changed.
    pub fn row(&self) -> Result<(), Error> {
        let change = self.change;
        let exists = || {
            let row = "SELECT 1 FROM session WHERE key = ?";
            self.tx.query_row(row, [self.key], |_| Ok(())).optional()
        };
        let is_missing = self.is_new_database && exists()?.is_none();
        if !change.changed && !is_missing {
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
                i64::from(self.is_new_database),
                json(&**view),
            ],
        )?;
        Ok(())
    }

    /// Adds its new findings.
    pub fn findings(&self) -> Result<(), Error> {
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
                finding.kind().name(),
                finding.state.name(),
                finding.stream().map(|slot| slot.name()),
                finding.cause().map(|cause| cause.name()),
                saturated(finding.bytes()),
                json::<Finding>(finding),
            ])?;
        }
        // A session with nothing but near misses is deleted like one without findings.
        let counts = |(_, finding): &&(i64, Finding)| finding.kind() != Kind::NearMiss;
        let counted = self.change.findings.iter().filter(counts).count();
        self.tx.execute(
            "UPDATE session SET findings = findings + ? WHERE key = ?",
            params![counted as i64, self.key],
        )?;
        Ok(())
    }

    /// Adds its new records. Returns how many chunks were written.
    pub fn records(&self, compressor: &mut Compressor<'static>) -> Result<u32, Error> {
        let (records, lost) = (&self.change.records, self.change.lost);
        let keeps = self.keeps_records && !records.is_empty();
        let lost = match self.keeps_records {
            true => lost,
            false => lost + record_list::split(records).count() as u64,
        };
        let (mut bytes, mut written) = (0, 0);
        if keeps {
            let mut seq: i64 = self.tx.query_row(
                "SELECT coalesce(max(seq), -1) + 1 FROM chunk WHERE session = ?",
                [self.key],
                |row| row.get(0),
            )?;
            // A reader holds one at a time.
            for part in record_list::parts(records, chunks::MAX_BYTES) {
                bytes += chunks::write(self.tx, self.key, seq, part, compressor)?;
                (seq, written) = (seq + 1, written + 1);
            }
        }
        if bytes > 0 || lost > 0 {
            self.tx.execute(
                "UPDATE session SET bytes = bytes + ?, lost = lost + ? WHERE key = ?",
                params![bytes as i64, saturated(lost), self.key],
            )?;
        }
        Ok(written)
    }

    /// Writes its end, if it has ended.
    pub fn end(&self) -> Result<(), Error> {
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

fn json<T: serde::Serialize>(of: &T) -> String {
    // Plain data, and every key of a map is a string: this cannot fail.
    serde_json::to_string(of).unwrap_or_default()
}

fn saturated(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
