//! What is kept on disk: recordings, and the flight recorder's database.
//!
//! A [`recording`] is a file with all records of one trace. The flight recorder keeps every session, its
//! findings and its records in an SQLite database, `lastbyte.db` in the state directory: the daemon's
//! [`Recorder`] writes it, each [`StoreReader`] queries it.
//!
//! Invariants:
//! - The records of one session, taken in by a new model, lead to the same findings and the same verdict,
//!   word for word. Tests hold that for every story that the model is tested with.
//! - The tracer's thread never waits for the disk. What has no room is dropped and counted.
//! - An open session is never deleted.

mod chunks;
mod context;
mod database;
mod journal;
mod pending;
mod reader;
mod record_list;
mod recorder;
pub mod recording;
mod retention;
mod rows;
mod unfinished;
mod writer;

use std::fmt;

pub use self::{
    database::Error,
    reader::{Kept, KeptFinding, Outcome, StoreQuery, StoreReader},
    record_list::RecordList,
    recorder::{Flusher, Options, Recorder},
    retention::Policy,
    unfinished::{UnfinishedSession, UnfinishedSessions},
};

/// Whether the flight recorder keeps everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreHealth {
    /// It does.
    #[default]
    Good,
    /// The last attempt to write failed. Changes wait for the next one, as far as there is room.
    Failing {
        /// The error.
        what: String,
    },
    /// Open sessions and findings, which may not be deleted, use up the allowed bytes: records are not kept.
    Full,
    /// The database cannot be opened. Sessions and findings wait in memory, as far as there is room.
    Unopened {
        /// Why, and what to do.
        what: String,
    },
}

impl StoreHealth {
    /// Whether everything is kept.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        matches!(self, Self::Good)
    }
}

impl fmt::Display for StoreHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good => f.write_str("store: ok"),
            Self::Failing { what } => write!(
                f,
                "store: cannot write: {what}; tracing goes on, and findings wait in memory"
            ),
            Self::Full => f.write_str(
                "store: full: open sessions and findings use all of store.max_bytes, so records are not kept; raise \
                 store.max_bytes",
            ),
            Self::Unopened { what } => write!(
                f,
                "store: nothing is kept: {what}; tracing goes on"
            ),
        }
    }
}
