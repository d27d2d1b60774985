//! Updates as lines of text: for people, or as JSON for programs.

mod clock;
mod findings;
mod had;
mod history;
mod json;
mod list;
mod size;
mod story;
mod text;

use std::{borrow::Cow, io};

use self::clock::Clock;
pub use self::{
    clock::Zone,
    findings::table as findings_table,
    had::was,
    list::table,
    size::{readable, size},
};
use crate::model::{End, Finding, Found, Listed, SessionView, Update, timeline::Timeline};

/// Turns updates into lines.
#[derive(Debug)]
pub struct Lines {
    json: bool,
    all: bool,
    clock: Clock,
    host: String,
    /// The latest time that a sentence began with; `None` where sentences are in no order.
    latest: Option<u64>,
}

impl Lines {
    /// Lines of a pipeline's updates, from the first on: it gives the clock and the host. `json`: one
    /// JSON object a line instead of sentences; `all`: every update, not only what is worth an
    /// operator's attention.
    #[must_use]
    pub fn new(json: bool, all: bool) -> Self {
        Self {
            json,
            all,
            clock: Clock::default(),
            host: String::new(),
            latest: Some(0),
        }
    }

    /// Sentences have the times of that zone, not of UTC.
    #[must_use]
    pub fn in_zone(mut self, zone: Zone) -> Self {
        self.clock.zone = zone;
        self
    }

    /// Each sentence begins with the time of what it says, not with that at which it was reported.
    #[must_use]
    pub fn in_any_order(mut self) -> Self {
        self.latest = None;
        self
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
            self.clock.offset = started.wall_offset;
            self.host = started.host.to_string();
            self.latest = self.latest.map(|_| started.time);
        }
        if !self.all && !is_wanted(update) {
            return;
        }
        if self.json {
            out.extend(json::line(update, &self.clock, &self.host));
        } else {
            let Some(time) = update.time() else { return };
            let at = self
                .latest
                .map_or(time, |latest| latest.max(update.reported().unwrap_or(time)));
            self.latest = self.latest.map(|_| at);
            text::lines(update, at, &self.clock, out);
        }
    }
}

/// The JSON object of a listed session.
#[must_use]
pub fn listed(listed: &Listed) -> String {
    json::listed(listed, &Clock::utc(listed.wall_offset))
}

/// The JSON object of a listed finding.
#[must_use]
pub fn found(found: &Found) -> String {
    json::found(found, &Clock::utc(found.wall_offset))
}

/// A session's whole history as lines for people; `wall_offset` as in [`Listed`].
#[must_use]
pub fn show(line: &Timeline, wall_offset: u64, zone: &Zone) -> Vec<String> {
    let clock = Clock {
        offset: wall_offset,
        zone: zone.clone(),
    };
    history::text(line, &clock)
}

/// The same as JSON objects, one a line: who it is, then every moment, then what was found.
#[must_use]
pub fn show_json(line: &Timeline, wall_offset: u64, host: &str) -> Vec<String> {
    json::history(line, &Clock::utc(wall_offset), host)
}

/// A finding's sentence for people; `wall_offset` as in [`Listed`].
#[must_use]
pub fn sentence<'a>(finding: &'a Finding, wall_offset: u64, zone: &Zone) -> Cow<'a, str> {
    let clock = Clock {
        offset: wall_offset,
        zone: zone.clone(),
    };
    match clock::sentence(finding, &clock) {
        Cow::Borrowed(text) => readable(text),
        Cow::Owned(text) => Cow::Owned(readable(&text).into_owned()),
    }
}

/// What `why` says of a session that nothing is wrong with, as a JSON object. `state` is one word, `end`
/// that of a session that has closed; `wall_offset` as in [`Listed`].
#[must_use]
pub fn diagnosis_json(
    session: &SessionView,
    state: &str,
    end: Option<&End>,
    message: &str,
    wall_offset: u64,
    host: &str,
) -> String {
    json::diagnosis(session, state, end, message, &Clock::utc(wall_offset), host)
}

/// A session's story as a JSON object.
#[must_use]
pub fn explain_json(line: &Timeline, wall_offset: u64, host: &str) -> String {
    let text = explain(line, wall_offset, &Zone::default());
    json::explanation(line, text, &Clock::utc(wall_offset), host)
}

/// A JSON object of any other kind, about this moment: `now` is wall clock, ns since 1970.
#[must_use]
pub fn object_json(kind: &str, now: u64, host: &str, body: &impl serde::Serialize) -> String {
    json::object(kind, Clock::utc(0).rfc3339(now), host, body)
}

/// A session's story in sentences, as lines for people.
#[must_use]
pub fn explain(line: &Timeline, wall_offset: u64, zone: &Zone) -> Vec<String> {
    let clock = Clock {
        offset: wall_offset,
        zone: zone.clone(),
    };
    story::text(line, &clock)
}

/// Whether an update is shown without `--all`.
#[must_use]
pub fn is_wanted(update: &Update) -> bool {
    match update {
        Update::Started(_) | Update::SessionClosed(_) | Update::Gap(_) => true,
        Update::Finding(finding) => !finding.is_routine(),
        Update::SessionOpened(_)
        | Update::ProcessExec(_)
        | Update::ProcessExit(_)
        | Update::StreamEof(_)
        | Update::Sample(_)
        | Update::Forget { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{SessionId, SessionView, Visible};

    /// A session of nobody's that nothing is known of.
    pub(super) fn session() -> SessionView {
        SessionView {
            id: SessionId(81_234_567 << 22 | 4711),
            user: None,
            uid: Some(0),
            peer: None,
            local: None,
            server_exe: Visible::default(),
            server_owner: None,
            server_pid: 1,
            command: None,
            leader_pid: 4711,
            exit: None,
            exited: None,
            opened: 0,
            preexisting: false,
        }
    }
}
