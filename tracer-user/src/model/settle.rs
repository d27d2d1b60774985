//! What a tick decides: everything that happened before it is known by then.

use super::{
    Env,
    departure::{Ender, ender},
    message, orphan,
    session::Session,
    stream::{Stall, Stream},
    verdict,
    view::{Closed, Finding, Fix, GapReason, History, Kind, Opened, Slot, State, Update, Verdict},
};

/// How long a session waits for its command's exec before it is announced without one, ns: a busy
/// machine takes its time between the fork and the exec.
const EXEC_TAKES: u64 = 250_000_000;
/// From a server's exit to its descriptors being closed for sure, ns; and the other way round.
const EXIT_TAKES: u64 = 250_000_000;
/// From the last close to the leader being ended by it, ns.
pub(super) const LEADER_FOLLOWS: u64 = 250_000_000;
/// How long a stdin left open keeps a session whose every other part has ended, ns.
const STDIN_LINGERS: u64 = 2_000_000_000;
/// How long a leader keeps a session that has no channel any more, or of which records were lost
/// that may have told of its end, ns.
const LEADER_LINGERS: u64 = 2_000_000_000;
/// How long a writer that lost its reader is waited for: only a failing write is a loss, ns.
const WRITERS_LINGER: u64 = 30_000_000_000;
/// How long a session of which only scraps arrived is kept, ns.
const STUB_LINGERS: u64 = 60_000_000_000;

/// When to ask again.
#[derive(Debug, Default)]
pub(super) struct Next(pub Option<u64>);

impl Next {
    pub fn at(&mut self, time: u64) {
        self.0 = Some(self.0.map_or(time, |next| next.min(time)));
    }

    /// Whether `time` has come; if not, asks again then.
    pub fn reached(&mut self, time: u64, now: u64) -> bool {
        if time > now {
            self.at(time);
        }
        time <= now
    }
}

impl Session {
    /// Tells of the session, once.
    pub fn open(&mut self, out: &mut Vec<Update>) {
        if !self.told_opened {
            self.told_opened = true;
            out.push(Update::SessionOpened(Opened {
                time: self.view.opened,
                session: self.view.clone(),
                had: History::default(),
            }));
        }
    }

    /// Decides what can be decided at `now`. True when the session is over.
    pub fn settle(&mut self, now: u64, env: &Env, next: &mut Next, out: &mut Vec<Update>) -> bool {
        let known = self.view.command.is_some() || self.leader_gone.is_some();
        if known || next.reached(self.view.opened.saturating_add(EXEC_TAKES), now) {
            self.open(out);
        }
        let losses_known = self.settle_losses(now, env, next, out);
        self.settle_stalls(now, env, out);
        self.settle_watch(now, env, next, out);
        self.is_over(now, next) && losses_known
    }

    /// False while a loss cannot be told yet.
    fn settle_losses(
        &mut self,
        now: u64,
        env: &Env,
        next: &mut Next,
        out: &mut Vec<Update>,
    ) -> bool {
        let mut all = true;
        for at in 0..self.streams.len() {
            let Some(stream) = &self.streams[at] else {
                continue;
            };
            let Some(close) = stream.close.filter(|_| !stream.told) else {
                continue;
            };
            // Of what may yet be lost the last word is enough.
            let Some(cut) = verdict::cut(self, stream, env).filter(|cut| cut.bytes > 0) else {
                continue;
            };
            let exit_follows = close.exiting && self.server_exit.is_none();
            let settled = if exit_follows {
                close.time.saturating_add(EXIT_TAKES)
            } else {
                close.time
            };
            if !next.reached(settled.max(stream.settled_at().unwrap_or(0)), now) {
                all = false;
                continue;
            }
            let finding = Finding {
                time: if close.unread > 0 {
                    close.time
                } else {
                    self.last
                },
                known: now,
                kind: Kind::Truncated,
                state: State::Open,
                since: None,
                session: self.view.clone(),
                stream: Some(stream.slot),
                bytes: cut.bytes,
                exact: cut.exact,
                cause: Some(cut.cause),
                holders: Vec::new(),
                margin_ns: verdict::margin(self, stream),
                message: message::truncated(self, stream, &close, &cut),
                fix: message::fix_truncated(self, cut.cause),
                quiet: false,
            };
            if let Some(stream) = &mut self.streams[at] {
                stream.told = true;
            }
            self.open(out);
            out.push(Update::Finding(finding));
        }
        all
    }

    /// A stream that stands still is shown at once, and a finding when it has done so for long: a client
    /// that reads slowly is everyday life.
    fn settle_stalls(&mut self, now: u64, env: &Env, out: &mut Vec<Update>) {
        for at in 0..self.streams.len() {
            let Some(stream) = &self.streams[at] else {
                continue;
            };
            let stall = stream.rests_since(self.leader_gone).map(|since| Stall {
                since,
                long: stream.sampled.saturating_sub(since) >= env.stall_after,
            });
            let finding = match (stream.stalled, stall) {
                (Some(known), Some(stall)) if known.long || !stall.long => continue,
                (_, Some(stall)) => stalled(self, stream, State::Open, stall, now),
                (Some(known), None) => stalled(self, stream, State::Resolved, known, now),
                (None, None) => continue,
            };
            if let Some(stream) = &mut self.streams[at] {
                stream.stalled = stall;
            }
            self.open(out);
            out.push(Update::Finding(finding));
        }
    }

    /// Says when to look for holders.
    fn settle_watch(&mut self, now: u64, env: &Env, next: &mut Next, out: &mut Vec<Update>) {
        let hangs = self.outputs().any(Stream::hangs);
        if self.watch.is_told() && !hangs {
            orphan::tell(self, Vec::new(), now, env, out);
        }
        let open = self.linger.is_pending()
            || self.is_on_its_way()
            || self.observed().any(|stream| stream.close.is_none());
        match self.leader_gone {
            Some(gone) if open && self.watch.due.is_none() => {
                self.watch
                    .ask(gone.max(env.started).saturating_add(env.grace));
            }
            _ if !open => self.watch.due = None,
            _ => {}
        }
        if let Some(look) = self.outputs().filter_map(Stream::doubted_at).min() {
            self.watch.ask(look);
        }
        if let Some(due) = self.watch.due.filter(|due| *due > now) {
            next.at(due);
        }
    }

    fn is_over(&mut self, now: u64, next: &mut Next) -> bool {
        if self.gone {
            return true;
        }
        if !self.all_closed(now, next) {
            return false;
        }
        let closes = || self.observed().filter_map(|stream| stream.close);
        let Some(last) = closes().map(|close| close.time).max() else {
            // Nothing is observed of it but its processes.
            let silent = self.stub && next.reached(self.last.saturating_add(STUB_LINGERS), now);
            return self.leader_gone.is_some() || self.server_exit.is_some() || silent;
        };
        for stream in self.outputs() {
            if !next.reached(stream.settled_at().unwrap_or(0), now) {
                return false;
            }
        }
        if !self.no_write_can_fail(now, next) {
            return false;
        }
        if self.leader_gone.is_some() {
            // Whom the terminal's hangup kills has a moment to die.
            let dying = self.tree.living() > 0 && self.outputs().any(Stream::is_pty);
            return !dying || next.reached(last.saturating_add(LEADER_FOLLOWS), now);
        }
        // The leader lives, as far as known. A command may close its output and go on; but when the
        // server, the client or the channel is gone, no session is left.
        let ended = self
            .server_exit
            .map(|(time, _)| time)
            .or(self.peer_left.map(|left| left.time));
        let channel_closed = self.outputs().any(|stream| {
            !stream.unlistened && stream.close.is_some_and(|close| close.writers > 0)
        });
        let lost = [GapReason::LostRecords, GapReason::Interrupted];
        let lost = lost.iter().any(|reason| self.gaps.contains(reason));
        match ended {
            Some(ended) => next.reached(ended.max(last).saturating_add(LEADER_FOLLOWS), now),
            None if channel_closed || lost => {
                next.reached(last.saturating_add(LEADER_LINGERS), now)
            }
            None => false,
        }
    }

    /// Whether the server's ends are all gone, seen or not.
    fn all_closed(&mut self, now: u64, next: &mut Next) -> bool {
        let leader_gone = self.leader_gone;
        let server_exit = self.server_exit;
        let outputs_closed = self.outputs().all(|stream| stream.close.is_some());
        let last = self.last;
        let mut all = true;
        for stream in self.observed_mut().filter(|stream| stream.close.is_none()) {
            let gone_at = if stream.unheld {
                Some(now)
            } else if let Some((exit, _)) = server_exit {
                Some(exit.saturating_add(EXIT_TAKES))
            } else if stream.slot == Slot::Stdin && outputs_closed && leader_gone.is_some() {
                Some(last.saturating_add(STDIN_LINGERS))
            } else {
                None
            };
            match gone_at {
                Some(time) if next.reached(time, now) => {
                    stream.close_unseen(time, leader_gone.is_some());
                }
                _ => all = false,
            }
        }
        all
    }

    /// Writers that survived the server's end of their stream have had the time to write: what they write
    /// is lost.
    fn no_write_can_fail(&self, now: u64, next: &mut Next) -> bool {
        let waited_for = |stream: &&Stream| {
            stream.close.is_some_and(|close| {
                close.writers > 0
                    && close.unread == 0
                    && !stream.unlistened
                    && stream.refused.is_none()
                    && ender(self, &close) != Ender::Client
            })
        };
        let closes = self.outputs().filter(waited_for).filter_map(|it| it.close);
        let last = closes.map(|close| close.time).max();
        self.tree.living() == 0
            || last.is_none_or(|last| next.reached(last.saturating_add(WRITERS_LINGER), now))
    }

    /// Says the last word.
    pub fn conclude(mut self, now: u64, env: &Env, out: &mut Vec<Update>) {
        self.open(out);
        if self.watch.is_told() {
            orphan::tell(&mut self, Vec::new(), now, env, out);
        }
        self.settle_linger(now, out);
        for stream in self.streams.iter().flatten() {
            if let Some(stall) = stream.stalled {
                let finding = stalled(&self, stream, State::Resolved, stall, now);
                out.push(Update::Finding(finding));
            }
        }
        if self
            .observed()
            .any(|stream| verdict::unaccounted(&self, stream))
        {
            self.gap(GapReason::CloseNotSeen);
        }
        let doubts: Vec<_> = self
            .outputs()
            .filter(|stream| verdict::cut(&self, stream, env).is_none())
            .filter_map(|stream| verdict::doubt(&self, stream))
            .collect();
        for doubt in doubts {
            self.gap(doubt);
        }
        let reports: Vec<_> = self
            .observed()
            .map(|stream| verdict::report(&self, stream, env))
            .collect();
        for report in &reports {
            if let Verdict::NearMiss { unread } = report.verdict {
                out.push(Update::Finding(Finding {
                    time: now,
                    known: now,
                    kind: Kind::NearMiss,
                    state: State::Open,
                    since: None,
                    session: self.view.clone(),
                    stream: Some(report.slot),
                    bytes: unread,
                    exact: true,
                    cause: None,
                    holders: Vec::new(),
                    margin_ns: report.margin_ns,
                    message: message::near_miss(&self, report),
                    fix: Fix::default(),
                    quiet: false,
                }));
            }
        }
        let worst = reports
            .iter()
            .map(|report| report.verdict)
            .max_by_key(|verdict| verdict.rank());
        let verdict = match worst {
            Some(Verdict::Clean) | None if !self.gaps.is_empty() => Verdict::Unknown,
            None => Verdict::Unknown,
            Some(verdict) => verdict,
        };
        let id = self.view.id;
        out.push(Update::SessionClosed(Closed {
            time: self.last,
            known: now,
            session: self.view,
            verdict,
            gaps: self.gaps,
            streams: reports,
            carried: (self.conn.sock != 0).then(|| self.delivery.carried()),
            had: History::default(),
        }));
        out.push(Update::Forget { session: id });
    }

    /// Whether it is of this user, whose name it does not have.
    pub fn is_nameless(&self, uid: u32) -> bool {
        self.view.uid == Some(uid) && self.view.user.is_none()
    }
}

fn stalled(session: &Session, stream: &Stream, state: State, stall: Stall, now: u64) -> Finding {
    let since = stall.since;
    Finding {
        time: now,
        known: now,
        kind: Kind::Stalled,
        state,
        since: (state != State::Resolved).then_some(since),
        session: session.view.clone(),
        stream: Some(stream.slot),
        bytes: stream.pending(),
        exact: session.gaps.is_empty() && !stream.is_blocked(),
        cause: Some(super::view::Cause::ServerNotReading),
        holders: Vec::new(),
        margin_ns: None,
        message: match state {
            State::Resolved => message::moves(session, stream, since, now),
            _ => message::stalled(session, stream, since),
        },
        fix: message::fix_stalled(session),
        quiet: !stall.long,
    }
}
