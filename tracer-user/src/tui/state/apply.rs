//! Applies the messages of a source to the state.

use std::sync::Arc;

use super::{Begin, MAX_MOMENTS, Row, State};
use crate::{
    model::{SessionId, SessionView, StreamNews, Update},
    tui::feed::Feed,
};

impl State {
    /// Applies a message.
    pub fn feed(&mut self, feed: Feed) {
        // Even while the past is shown, as the scrub bar shows how much is ahead.
        self.changed = true;
        match feed {
            Feed::Phase(phase) => self.phase = phase,
            Feed::Tracing(tracing) => self.host.tracing = tracing,
            Feed::Backlog(updates) => {
                updates.iter().for_each(|update| self.update(update));
                let rows = &self.rows;
                self.log.mark_past_read(|session| {
                    let row = rows.get(&session.0);
                    row.is_none_or(|row| row.closed.is_some())
                });
            }
            Feed::Updates(updates) => updates.iter().for_each(|update| self.update(update)),
            Feed::Timeline(timeline) => self.timeline = Some(timeline),
            Feed::Load(load) => {
                self.clock.extend_to(load.time);
                self.host.add_load(load);
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
            self.clock.extend_to(time);
        }
        if let Some(view) = update.session() {
            self.row(view).update_view(view);
        }
        match update {
            Update::Started(started) => {
                self.host.started = Some(started.clone());
                self.add_moment(started.time);
            }
            Update::SessionOpened(it) => {
                self.row(&it.session).set_history(&it.had);
                self.add_moment(it.session.opened);
            }
            Update::Finding(finding) => {
                self.row(&finding.session).add_finding(finding);
                self.log.add(finding);
                self.add_moment(finding.time);
            }
            Update::SessionClosed(closed) => {
                self.row(&closed.session).close(closed);
                self.host.add_end(closed);
                self.add_moment(closed.time);
                self.limit_closed(closed.session.id);
            }
            Update::Gap(gap) => {
                self.host.add_gap(gap);
                self.add_moment(gap.time);
            }
            Update::ProcessExec(it) | Update::ProcessExit(it) => self.add_moment(it.time),
            Update::StreamEof(news) => {
                self.add_sample(news);
                self.add_moment(news.time);
            }
            Update::Sample(news) => self.add_sample(news),
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

    fn add_sample(&mut self, news: &StreamNews) {
        let moved = news.written.max(news.read);
        let (time, slot) = (news.time, news.slot);
        self.row(&news.session).throughput.record(time, slot, moved);
    }

    fn limit_closed(&mut self, id: SessionId) {
        self.closed.push_back(id.0);
        if self.closed.len() > self.setup.keep
            && let Some(old) = self.closed.pop_front()
        {
            self.rows.remove(&old);
        }
    }

    fn add_moment(&mut self, time: u64) {
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
