//! What another recorder left when it ended: the sessions that were open.

use std::ops::ControlFlow;

use rusqlite::{Connection, OptionalExtension as _, params};
use tracer_ebpf::ABI_VERSION;
use zerocopy::IntoBytes as _;

use super::{
    Error, Records,
    database::Database,
    log::company,
    writer::{interrupt, unpack},
};
use crate::model::{SessionId, SessionView};

/// What was open when the last recorder on this machine ended, since the machine was started.
#[derive(Debug, Default)]
pub struct Left {
    /// How far its caller had come in what is kept; `None` when there is nothing of this boot.
    pub progress: Option<u64>,
    /// The sessions, in the order in which their records are to be put on the road.
    pub sessions: Vec<LeftSession>,
}

/// A session that was open.
#[derive(Debug)]
pub struct LeftSession {
    /// Its id.
    pub id: SessionId,
    /// Its records, for a model that has not started yet, or has taken in those of others. What it
    /// tells of them has been told before.
    pub records: Records,
    pub(super) key: i64,
    pub(super) view: SessionView,
    pub(super) opened: i64,
}

impl Left {
    /// Finds the sessions that are open in `boot`; those of another are over, however they ended.
    pub(super) fn find(database: &mut Database, boot: &str) -> Result<Self, Error> {
        let tx = database.connection.transaction()?;
        // Nor can one be gone on with whose records are not whole, or of another version.
        let over = "SELECT session.key FROM session LEFT JOIN run ON run.key = session.run
                    WHERE session.state = 'open' AND (run.boot IS NOT ?1 OR abi <> ?2 OR lost > 0)";
        let over: Vec<i64> = tx
            .prepare(over)?
            .query_map(params![boot, ABI_VERSION], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        interrupt(&tx, &over)?;
        tx.commit()?;
        let connection = &database.connection;
        let progress = "SELECT progress FROM kept WHERE boot = ?";
        let progress: Option<i64> = connection
            .query_row(progress, [boot], |row| row.get(0))
            .optional()?;
        // A loss is about every session that is there: what was lost before one began must be on the
        // road before it.
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
            // From here on the model knows itself who else is on the connection.
            let last = records.iter().last().map(|record| record.header().time);
            records.extend(company(id, 0, last.unwrap_or(0)).as_bytes());
            sessions.push(LeftSession {
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

/// The records that are kept of a session.
fn kept(connection: &Connection, session: i64) -> Result<Records, Error> {
    let mut records = Records::default();
    each_chunk(connection, session, |bytes| {
        records.extend(bytes);
        ControlFlow::Continue(())
    })?;
    Ok(records)
}

/// The same piece by piece, until `each` breaks off.
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
