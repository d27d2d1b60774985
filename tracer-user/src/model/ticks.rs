//! When each session is seen to, and the scans that this takes.

use tracer_ebpf::{Cgroup, Holder, Socket};

use super::{
    Model, Update,
    orphan::{self, Look, Scan},
    settle::Next,
};

/// Most sessions remembered as over, so that what their last processes do opens none anew.
pub(super) const MAX_OVER: usize = 8192;

impl Model {
    pub(super) fn tick(&mut self, now: u64, out: &mut Vec<Update>) {
        if !self.ready {
            return;
        }
        let due = self.due(now);
        self.touched.clear();
        for id in due {
            self.settle(id, now, out);
        }
    }

    pub(super) fn settle(&mut self, id: u64, now: u64, out: &mut Vec<Update>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if let Some(timer) = session.timer.take() {
            self.timers.remove(&(timer, id));
        }
        let start = session.view.id.start_ms().saturating_mul(1_000_000);
        if session.stub && self.lost_at.is_none_or(|lost| lost < start) {
            // Nothing was lost that could have been its start: whatever it is, it is no session.
            self.processes -= session.tree.len();
            self.sessions.remove(&id);
            self.wanted.remove(&id);
            return;
        }
        let mut next = Next::default();
        let over = session.settle(now, &self.env, &mut next, out);
        let alone = session.company == 0 && self.conns.sessions(session.conn.sock) == [id];
        if over && !session.lingers(alone, now, &self.env, &mut next) {
            self.end(id, now, out);
            return;
        }
        if session.watch.is_due(now) {
            self.wanted.insert(id);
        }
        if let Some(time) = next.0 {
            self.set_timer(id, time);
        }
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
        self.processes -= session.tree.len();
        self.wanted.remove(&id);
        self.servers.done(session.server.pid, id);
        self.conns.done(session.conn, id);
        self.closed += 1;
        if self.over.insert(id) {
            self.over_order.push_back(id);
        }
        if self.over_order.len() > MAX_OVER
            && let Some(old) = self.over_order.pop_front()
        {
            self.over.remove(&old);
        }
        session.conclude(now, &self.env, out);
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

    pub(super) fn socket(&mut self, record: &Socket) {
        for id in self.conns.sessions(record.conn.sock).to_vec() {
            self.on(id, |session| session.progressed(record.progress));
        }
        if let Some(scan) = &mut self.scan {
            scan.socket(record);
        }
    }

    pub(super) fn cgroup(&mut self, record: &Cgroup) {
        if let Some(scan) = &mut self.scan {
            scan.cgroup(record);
        }
    }

    pub(super) fn scan_end(&mut self, now: u64, partial: bool, out: &mut Vec<Update>) {
        let Some(scan) = self.scan.take() else { return };
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
                orphan::looked(session, &look, out);
                // A look ends between two ticks; the next one draws the rest of the conclusions.
                self.set_timer(id, now);
            }
        }
    }
}
