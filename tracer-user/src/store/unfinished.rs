//! The sessions that were open when an earlier recorder ended.

use std::ops::ControlFlow;

use rusqlite::{Connection, OptionalExtension as _, params};
use tracer_ebpf::ABI_VERSION;
use zerocopy::IntoBytes as _;

use super::{
    Error, RecordList, chunks::unpack, database::Database, journal::siblings, rows::interrupt,
};
use crate::model::{SessionId, SessionView};

/// The sessions of this boot that were open when the last recorder ended.
#[derive(Debug, Default)]
pub struct UnfinishedSessions {
    /// The progress of the last recorder's caller that is kept ([`super::Recorder::record`]); `None` if nothing
    /// is kept of this boot.
    pub progress: Option<u64>,
    /// The sessions, in the order in which the model must take in their records.
    pub sessions: Vec<UnfinishedSession>,
}

/// A session that was open.
#[derive(Debug)]
pub struct UnfinishedSession {
    /// Its id.
    pub id: SessionId,
    /// Its records, for a model that has not started yet. The updates that come of them were reported by the
    /// earlier daemon.
    pub records: RecordList,
    pub(super) key: i64,
    pub(super) view: SessionView,
    pub(super) opened: i64,
}

impl UnfinishedSessions {
    /// Finds the sessions that are open in `boot`. Open sessions of another boot are marked as interrupted.
    pub(super) fn find(database: &mut Database, boot: &str) -> Result<Self, Error> {
        let tx = database.connection.transaction()?;
        // A session cannot be resumed either if its records are incomplete or of another version.
        let ended = "SELECT session.key FROM session LEFT JOIN run ON run.key = session.run
                    WHERE session.state = 'open' AND (run.boot IS NOT ?1 OR abi <> ?2 OR lost > 0)";
        let ended: Vec<i64> = tx
            .prepare(ended)?
            .query_map(params![boot, ABI_VERSION], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        interrupt(&tx, &ended)?;
        tx.commit()?;
        let connection = &database.connection;
        let progress = "SELECT progress FROM kept WHERE boot = ?";
        let progress: Option<i64> = connection
            .query_row(progress, [boot], |row| row.get(0))
            .optional()?;
        // A loss concerns every open session: the model must learn of it before a session that began later.
        let open =
            "SELECT key, id, opened, view FROM session WHERE state = 'open' ORDER BY opened, key";
        let mut query = connection.prepare(open)?;
        let mut rows = query.query([])?;
        let (mut sessions, mut damaged) = (Vec::new(), Vec::new());
        while let Some(row) = rows.next()? {
            let key = row.get(0)?;
            let id = SessionId(row.get::<_, i64>(1)?.cast_unsigned());
            let view = serde_json::from_str(row.get_ref(3)?.as_str().unwrap_or_default());
            let (Ok(view), Ok(mut records)) = (view, kept(connection, key)) else {
                damaged.push(key);
                continue;
            };
            // From here on the model itself knows the other sessions on the connection.
            let last = records.iter().last().map(|record| record.header().time);
            records.extend(siblings(id, 0, last.unwrap_or(0)).as_bytes());
            sessions.push(UnfinishedSession {
                id,
                records,
                key,
                view,
                opened: row.get(2)?,
            });
        }
        drop(rows);
        drop(query);
        let tx = database.connection.transaction()?;
        interrupt(&tx, &damaged)?;
        tx.commit()?;
        Ok(Self {
            progress: progress.map(i64::cast_unsigned),
            sessions,
        })
    }
}

/// The kept records of a session.
fn kept(connection: &Connection, session: i64) -> Result<RecordList, Error> {
    let mut records = RecordList::default();
    each_chunk(connection, session, |bytes| {
        records.extend(bytes);
        ControlFlow::Continue(())
    })?;
    Ok(records)
}

/// Calls `each` with every chunk of a session's kept records, until it breaks off.
pub(super) fn each_chunk(
    connection: &Connection,
    session: i64,
    mut each: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<(), Error> {
    let mut query =
        connection.prepare("SELECT raw, records FROM chunk WHERE session = ? ORDER BY seq")?;
    let mut rows = query.query([session])?;
    while let Some(row) = rows.next()? {
        let packed = row.get_ref(1)?.as_blob().unwrap_or_default();
        if each(&unpack(row.get(0)?, packed)?).is_break() {
            break;
        }
    }
    Ok(())
}
