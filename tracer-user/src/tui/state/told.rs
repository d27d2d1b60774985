//! What a source tells: sessions, findings, the machine.

use std::sync::Arc;

use super::{Begin, MAX_MOMENTS, Row, State};
use crate::{
    model::{SessionId, SessionView, StreamNews, Update},
    tui::feed::Feed,
};

impl State {
    /// Takes in what a source tells.
    pub fn feed(&mut self, feed: Feed) {
        // Of a paused past nothing changes but how much lies ahead.
        self.changed = true;
        match feed {
            Feed::Phase(phase) => self.phase = phase,
            Feed::Tracing(tracing) => self.host.tracing = tracing,
            Feed::Past(updates) => {
                updates.iter().for_each(|update| self.update(update));
                let rows = &self.rows;
                self.log.read_those(|session| {
                    let row = rows.get(&session.0);
                    row.is_none_or(|row| row.closed.is_some())
                });
            }
            Feed::Updates(updates) => updates.iter().for_each(|update| self.update(update)),
            Feed::Timeline(timeline) => self.timeline = Some(timeline),
            Feed::Health(health) => {
                self.clock.saw(health.time);
                self.host.health(health);
            }
            Feed::Missed { samples, updates } => {
                self.host.missed.0 += samples;
                self.host.missed.1 += updates;
            }
        }
        if !self.begun && self.clock.oldest.is_some() {
            self.begun = true;
            match self.setup.begin {
                Begin::Playing => self.clock.rewind(true),
                Begin::Paused => self.clock.rewind(false),
                Begin::End => {}
            }
        }
    }

    fn update(&mut self, update: &Update) {
        if let Some(time) = update.time() {
            self.clock.saw(time);
        }
        if let Some(view) = update.session() {
            self.row(view).is(view);
        }
        match update {
            Update::Started(started) => {
                self.host.started = Some(started.clone());
                self.moment(started.time);
            }
            Update::SessionOpened(it) => {
                self.row(&it.session).went_through(&it.had);
                self.moment(it.session.opened);
            }
            Update::Finding(finding) => {
                self.row(&finding.session).found(finding);
                self.log.add(finding);
                self.moment(finding.time);
            }
            Update::SessionClosed(closed) => {
                self.row(&closed.session).close(closed);
                self.host.closed(closed);
                self.moment(closed.time);
                self.over(closed.session.id);
            }
            Update::Gap(gap) => {
                self.host.gap(gap);
                self.moment(gap.time);
            }
            Update::ProcessExec(it) | Update::ProcessExit(it) => self.moment(it.time),
            Update::StreamEof(news) => {
                self.flowed(news);
                self.moment(news.time);
            }
            Update::Sample(news) => self.flowed(news),
            Update::Forget { session } => {
                if self
                    .rows
                    .get(&session.0)
                    .is_some_and(|row| row.closed.is_none())
                {
                    self.rows.remove(&session.0);
                }
            }
        }
    }

    fn row(&mut self, view: &Arc<SessionView>) -> &mut Row {
        let new = || Row::new(Arc::clone(view));
        self.rows.entry(view.id.0).or_insert_with(new)
    }

    fn flowed(&mut self, news: &StreamNews) {
        let moved = news.written.max(news.read);
        let (time, slot) = (news.time, news.slot);
        self.row(&news.session).flow.saw(time, slot, moved);
    }

    fn over(&mut self, id: SessionId) {
        self.closed.push_back(id.0);
        if self.closed.len() > self.setup.keep
            && let Some(old) = self.closed.pop_front()
        {
            self.rows.remove(&old);
        }
    }

    fn moment(&mut self, time: u64) {
        match self.moments.back() {
            Some(last) if *last < time => self.moments.push_back(time),
            None => self.moments.push_back(time),
            Some(_) => {
                let at = self.moments.partition_point(|other| *other < time);
                if self.moments.get(at) != Some(&time) {
                    self.moments.insert(at, time);
                }
            }
        }
        if self.moments.len() > MAX_MOMENTS {
            self.moments.pop_front();
        }
    }
}
