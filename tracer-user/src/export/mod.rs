//! Updates as lines of text: for people, or as JSON for programs.

mod course;
mod json;
mod list;
mod story;
mod text;

use std::io;

pub use self::list::table;
use crate::model::{Cause, Kind, Listed, Update, timeline::Timeline};

/// Turns updates into lines.
#[derive(Debug)]
pub struct Lines {
    json: bool,
    all: bool,
    clock: Clock,
    host: String,
}

impl Lines {
    /// Lines of a road's updates, from the first on: that tells the clock and the host. `json`: one
    /// JSON object a line instead of sentences; `all`: every update, not only what is worth an
    /// operator's attention.
    #[must_use]
    pub fn new(json: bool, all: bool) -> Self {
        Self {
            json,
            all,
            clock: Clock::default(),
            host: String::new(),
        }
    }

    /// Writes the lines that an update makes.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&mut self, update: &Update, out: &mut impl io::Write) -> io::Result<()> {
        let mut lines = Vec::new();
        self.of(update, &mut lines);
        lines.iter().try_for_each(|line| writeln!(out, "{line}"))
    }

    /// Appends the lines that an update makes, without line ends.
    pub fn of(&mut self, update: &Update, out: &mut Vec<String>) {
        if let Update::Started(started) = update {
            self.clock = Clock {
                offset: started.wall_offset,
            };
            self.host = started.host.to_string();
        }
        if !self.all && !is_wanted(update) {
            return;
        }
        if self.json {
            out.extend(json::line(update, &self.clock, &self.host));
        } else {
            text::lines(update, &self.clock, out);
        }
    }
}

/// The JSON object of a listed session.
#[must_use]
pub fn listed(listed: &Listed) -> String {
    let clock = Clock {
        offset: listed.wall_offset,
    };
    json::listed(listed, &clock)
}

/// A session's whole course as lines for people; `wall_offset` as in [`Listed`].
#[must_use]
pub fn show(line: &Timeline, wall_offset: u64) -> Vec<String> {
    course::text(
        line,
        &Clock {
            offset: wall_offset,
        },
    )
}

/// The same as JSON objects, one a line: who it is, then every moment, then what was found.
#[must_use]
pub fn show_json(line: &Timeline, wall_offset: u64, host: &str) -> Vec<String> {
    let clock = Clock {
        offset: wall_offset,
    };
    json::course(line, &clock, host)
}

/// A session's story in sentences, as lines for people.
#[must_use]
pub fn explain(line: &Timeline, wall_offset: u64) -> Vec<String> {
    story::text(
        line,
        &Clock {
            offset: wall_offset,
        },
    )
}

/// What is told without being asked for everything.
#[must_use]
pub fn is_wanted(update: &Update) -> bool {
    match update {
        Update::Started(_) | Update::SessionClosed(_) | Update::Gap(_) => true,
        // A client that leaves first (`| head -1`) is as ordinary as a near miss.
        Update::Finding(finding) => {
            finding.kind != Kind::NearMiss && finding.cause != Some(Cause::ClientGone)
        }
        Update::SessionOpened(_)
        | Update::ProcessExec(_)
        | Update::ProcessExit(_)
        | Update::StreamEof(_)
        | Update::Sample(_)
        | Update::Forget { .. } => false,
    }
}

/// Makes wall clock times of `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    /// Wall clock minus `CLOCK_BOOTTIME`, ns.
    offset: u64,
}

impl Clock {
    /// RFC 3339 with nine decimals, UTC.
    fn rfc3339(&self, time: u64) -> String {
        format!("{:.9}", self.at(time))
    }

    /// Hours to milliseconds, UTC.
    fn time_of_day(&self, time: u64) -> String {
        let text = format!("{:.3}", self.at(time));
        text.split_once('T')
            .map_or(text.as_str(), |(_, time)| time.trim_end_matches('Z'))
            .to_owned()
    }

    fn at(&self, time: u64) -> jiff::Timestamp {
        let ns = i128::from(time.wrapping_add(self.offset));
        // 2^64 ns reach to the year 2554, jiff to 9999.
        jiff::Timestamp::from_nanosecond(ns).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_wall_clock_to_the_nanosecond() {
        let clock = Clock {
            offset: 1_700_000_000_000_000_000,
        };
        assert_eq!(
            clock.rfc3339(5_000_000_007),
            "2023-11-14T22:13:25.000000007Z"
        );
        assert_eq!(clock.rfc3339(0), "2023-11-14T22:13:20.000000000Z");
        assert_eq!(clock.time_of_day(123_456_789), "22:13:20.123");
    }

    #[test]
    fn no_time_is_too_large() {
        let clock = Clock { offset: u64::MAX };
        assert!(clock.rfc3339(0).starts_with("2554-"));
    }
}
