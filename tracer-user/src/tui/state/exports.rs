//! What the user takes out of the UI: copies, files, signals. Only prepares them, as [`Effect`]s.

use std::borrow::Cow;

use super::{Effect, Popup, State, Target};
use crate::{
    export,
    model::{Finding, State as Stage},
};

impl State {
    /// Converts a record's time to wall clock time, ns since 1970.
    pub fn wall(&self, time: u64) -> u64 {
        let offset = self.host.started.as_ref().map_or(0, |it| it.wall_offset);
        time.wrapping_add(offset)
    }

    /// A finding's message, with times in the user's time zone.
    pub fn sentence<'a>(&self, finding: &'a Finding) -> Cow<'a, str> {
        export::sentence(finding, self.wall(0), &self.setup.zone)
    }

    pub(super) fn pid(&self) -> Option<String> {
        let holder = self
            .finding()
            .and_then(|it| it.holders().first().map(|it| it.pid));
        let leader = || {
            self.rows
                .get(&self.session()?.0)
                .map(|row| row.view.leader_pid)
        };
        holder.or_else(leader).map(|pid| pid.to_string())
    }

    pub(super) fn json(&self) -> Option<String> {
        let (line, started) = (self.timeline()?, self.host.started.as_ref()?);
        let lines = export::show_json(line, started.wall_offset, &started.host);
        Some(lines.join("\n"))
    }

    pub(super) fn copy(
        &mut self,
        what: &str,
        of: impl Fn(&Self) -> Option<String>,
    ) -> Option<Effect> {
        self.popup = None;
        let text = of(self);
        match &text {
            Some(text) => self.notify(format!("copied the {what}: {}", first_words(text))),
            None => self.notify(format!("nothing to copy: no {what} here")),
        }
        text.map(Effect::Copy)
    }

    pub(super) fn export(&mut self) -> Option<Effect> {
        let Some(text) = self.json() else {
            self.notify("the session is not loaded yet");
            return None;
        };
        let name = format!("lastbyte-session-{}.jsonl", self.session()?);
        Some(Effect::Write { name, text })
    }

    pub(super) fn target(&mut self) {
        if !self.setup.allow_signals {
            self.notify("to send signals, start `lastbyte top --allow-signals`");
            return;
        }
        if !self.setup.live {
            self.notify("signals cannot be sent from a recording");
            return;
        }
        if !self.clock.is_latest() {
            self.notify("signals cannot be sent to the past; press L for the live view");
            return;
        }
        let holders = self
            .finding()
            .filter(|it| it.state != Stage::Resolved)
            .map(|it| it.holders().to_vec())
            .unwrap_or_default();
        if holders.is_empty() {
            self.notify("no holder to send a signal to");
            return;
        }
        self.popup = Some(Popup::Confirm(Box::new(Target { holders, at: 0 })));
    }

    pub(super) fn terminate(&mut self) -> Option<Effect> {
        let Some(Popup::Confirm(target)) = self.popup.take() else {
            return None;
        };
        let holder = target.holder()?;
        Some(Effect::Terminate {
            pid: holder.pid,
            start: holder.start,
        })
    }
}

fn first_words(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
