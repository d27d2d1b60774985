//! What is kept on disk: recordings of the whole road, and the flight recorder.
//!
//! The flight recorder keeps every session, its findings, and the records that it was made of in an
//! SQLite database, `lastbyte.db` in the state directory. [`Recorder`] writes it, on the road; a
//! [`Reader`] answers from it, for as many as want to ask. What is kept of one session is a road of its
//! own: a model that walks it comes to the same findings and the same verdict, word by word.

mod context;
mod database;
mod left;
mod log;
mod pending;
mod reader;
mod recorder;
pub mod recording;
mod records;
mod retention;
mod writer;

use std::fmt;

pub use self::{
    database::Error,
    left::{Left, LeftSession},
    reader::{Filter, Kept, KeptFinding, Outcome, Reader},
    recorder::{Flusher, Options, Recorder},
    records::Records,
    retention::Policy,
};

/// Whether everything is being kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// It is.
    #[default]
    Good,
    /// The last attempt to write failed. What has room waits for the next.
    Failing {
        /// Why.
        what: String,
    },
    /// The bytes allowed are used up by what may not be deleted: records are not kept.
    Full,
    /// There is no database: sessions and findings are held in memory until there is room for no more.
    Unopened {
        /// Why, and what to do.
        what: String,
    },
}

impl Health {
    /// Whether everything is being kept.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        matches!(self, Self::Good)
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good => f.write_str("the flight recorder keeps everything"),
            Self::Failing { what } => write!(
                f,
                "the flight recorder cannot write: {what}; tracing goes on, findings wait until it can"
            ),
            Self::Full => f.write_str(
                "the flight recorder may use no more room, all of which open sessions and findings take: \
                 their records are not kept; allow it more",
            ),
            Self::Unopened { what } => write!(
                f,
                "the flight recorder keeps nothing: {what}; tracing goes on"
            ),
        }
    }
}
