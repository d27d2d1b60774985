//! What leaves the UI: copies, files, signals.

use std::borrow::Cow;

use super::{Above, Effect, Stage, State, Target};
use crate::{export, model::Finding};

impl State {
    /// A time by the wall clock, ns since 1970.
    pub fn wall(&self, time: u64) -> u64 {
        let offset = self.host.started.as_ref().map_or(0, |it| it.wall_offset);
        time.wrapping_add(offset)
    }

    /// A finding's sentence with the times of where the user is.
    pub fn sentence<'a>(&self, finding: &'a Finding) -> Cow<'a, str> {
        export::sentence(finding, self.wall(0), &self.setup.zone)
    }

    pub(super) fn pid(&self) -> Option<String> {
        let holder = self
            .finding()
            .and_then(|it| it.holders.first().map(|it| it.pid));
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
        self.above = None;
        let text = of(self);
        match &text {
            Some(text) => self.say(format!("copied {what}: {}", first_words(text))),
            None => self.say(format!("there is no such thing here: {what}")),
        }
        text.map(Effect::Copy)
    }

    pub(super) fn export(&mut self) -> Option<Effect> {
        let Some(text) = self.json() else {
            self.say("the session is not loaded yet");
            return None;
        };
        let name = format!("lastbyte-session-{}.jsonl", self.session()?);
        Some(Effect::Write { name, text })
    }

    pub(super) fn target(&mut self) {
        if !self.setup.allow_signals {
            self.say("sending signals takes `lastbyte top --allow-signals`");
            return;
        }
        if !self.setup.live || !self.clock.is_newest() {
            self.say("this is the past: there is nobody to send a signal to (L: live again)");
            return;
        }
        let holders = self
            .finding()
            .filter(|it| it.state != Stage::Resolved)
            .map(|it| it.holders.clone())
            .unwrap_or_default();
        if holders.is_empty() {
            self.say("no process holds anything here");
            return;
        }
        self.above = Some(Above::Confirm(Box::new(Target { holders, at: 0 })));
    }

    pub(super) fn terminate(&mut self) -> Option<Effect> {
        let Some(Above::Confirm(target)) = self.above.take() else {
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
