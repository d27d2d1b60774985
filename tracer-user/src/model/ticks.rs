//! When each session is seen to, and the scans that this takes.

use tracer_ebpf::{Cgroup, Holder, Socket};

use super::{
    Audience, Model, Update,
    applied::{SessionScan, Settled},
    facts::{Look, Scan},
    schedule::Alarm,
};

/// Most sessions remembered as over, so that what their last processes do opens none anew.
pub(super) const MAX_OVER: usize = 8192;

impl Model {
    pub(super) fn tick(&mut self, now: u64, out: &mut Vec<Update>) -> Vec<Settled> {
        if !self.ready {
            return Vec::new();
        }
        let due = self.due(now);
        self.touched.clear();
        due.into_iter()
            .filter_map(|id| self.settle(id, now, out))
            .collect()
    }

    fn settle(&mut self, id: u64, now: u64, out: &mut Vec<Update>) -> Option<Settled> {
        let session = self.sessions.get_mut(&id)?;
        let timer = session.timer.take();
        if let Some(timer) = timer {
            self.timers.remove(&(timer, id));
        }
        let is_due = timer.is_some_and(|timer| timer <= now && !session.watch.is_behind(timer));
        let start = session.facts.id().start_ms().saturating_mul(1_000_000);
        if session.facts.is_stub() && self.lost_at.is_none_or(|lost| lost < start) {
            // Nothing was lost that could have been its start: whatever it is, it is no session.
            self.processes -= session.facts.tree().len();
            self.sessions.remove(&id);
            self.wanted.remove(&id);
            return Some(Settled::dropped(id));
        }
        let mut next = Alarm::default();
        let over = session.settle(now, &self.env, &mut next, out);
        // One whose connection is not known is alone, but nothing is concluded from that.
        let connection = session.facts.connection();
        let carried = self.conns.sessions(connection.sock());
        let mut settled = Settled {
            session: session.facts.id(),
            is_alone: connection.siblings() == 0 && carried.iter().all(|other| *other == id),
            is_due,
            is_dropped: false,
        };
        let alone = settled.is_alone && !carried.is_empty();
        if over && !session.lingers(alone, now, &self.env, &mut next) {
            self.end(id, now, out);
            settled.is_dropped = true;
            return Some(settled);
        }
        if session.watch.is_due(now) {
            self.wanted.insert(id);
        }
        if let Some(time) = next.time() {
            self.set_timer(id, time);
        }
        Some(settled)
    }

    pub(super) fn set_timer(&mut self, id: u64, time: u64) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if let Some(old) = session.timer.replace(time) {
            self.timers.remove(&(old, id));
        }
        self.timers.insert((time, id));
    }

    pub(super) fn end(&mut self, id: u64, now: u64, out: &mut Vec<Update>) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        self.processes -= session.facts.tree().len();
        self.wanted.remove(&id);
        let facts = &session.facts;
        self.servers.done(facts.server().pid(), id);
        self.conns.done(facts.connection().id(), id);
        self.closed += 1;
        if self.over.insert(id) {
            self.over_order.push_back(id);
        }
        if self.over_order.len() > MAX_OVER
            && let Some(old) = self.over_order.pop_front()
        {
            self.over.remove(&old);
        }
        session.close(now, &self.env, out);
    }

    pub(super) fn scan_begin(&mut self, now: u64) {
        self.wanted.clear();
        self.scan = Some(Scan::of(self.joining(now)));
    }

    pub(super) fn holder(&mut self, record: &Holder) {
        if let Some(scan) = &mut self.scan {
            scan.add(record);
        }
    }

    /// Takes in a look at the connection of these sessions. True when it is evidence for one of them.
    pub(super) fn socket(&mut self, record: &Socket, carried: &Audience) -> bool {
        let mut is_evidence = false;
        for id in carried.iter() {
            self.on(id, |session| {
                let before = session.facts.timed_state(None);
                session.facts.progressed(record.progress);
                is_evidence |= session
                    .facts
                    .is_connection_evidence(before, session.facts.timed_state(None));
            });
        }
        if let Some(scan) = &mut self.scan {
            scan.socket(record);
        }
        is_evidence
    }

    pub(super) fn cgroup(&mut self, record: &Cgroup) {
        if let Some(scan) = &mut self.scan {
            scan.cgroup(record);
        }
    }

    pub(super) fn scan_end(
        &mut self,
        now: u64,
        partial: bool,
        out: &mut Vec<Update>,
    ) -> Vec<SessionScan> {
        let Some(scan) = self.scan.take() else {
            return Vec::new();
        };
        let scans = self.scanned_for(&scan);
        for (id, copies, cut) in scan.copies() {
            if let Some(session) = self.sessions.get_mut(&id) {
                let look = Look {
                    copies,
                    scan: &scan,
                    partial: partial || cut,
                    now,
                    servers: &self.servers,
                    env: &self.env,
                };
                session.looked(&look, out);
                // A look ends between two ticks; the next one draws the rest of the conclusions.
                self.set_timer(id, now);
            }
        }
        scans
    }
}
