//! One open session: what is known of it, what has been reported of it, and when to look at it again.
//!
//! Here the layers meet: facts change by records and looks, a tick or a look asks judgement and schedule
//! what follows, findings say what of that is new, and text puts it into words.

use tracer_ebpf::{Exit, Socket};

use super::{
    facts::{Env, Look, Scan, Session, Stream},
    findings::{self, Draft, Reported},
    judgement::{concerns, holders, kept_by},
    schedule::{Alarm, Linger, Watch, has_ended, lingers, opening_is_due, plan_look},
    text,
    view::{FindingBody, History, Opened, Slot, State, Update},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Tracked {
    pub facts: Session,
    pub reported: Reported,
    pub watch: Watch,
    linger: Linger,
    /// The timer that is set for it, ns.
    pub timer: Option<u64>,
}

impl Tracked {
    pub fn new(facts: Session) -> Self {
        Self {
            facts,
            reported: Reported::default(),
            watch: Watch::default(),
            linger: Linger::default(),
            timer: None,
        }
    }

    /// Whether its start has not been seen, and nothing of it has been reported.
    pub const fn is_unreported_stub(&self) -> bool {
        self.facts.is_stub() && !self.reported.is_opened()
    }

    /// The start of a session of which only scraps were known has arrived.
    pub fn begin(&mut self, facts: Session) {
        *self = Self {
            timer: self.timer,
            ..Self::new(facts)
        };
    }

    /// Whether it has ended, and is kept because its connection is open.
    pub const fn is_lingering(&self) -> bool {
        self.linger.is_pending()
    }

    /// Whether a socket that a scan finds may show what its connection is open for.
    pub fn is_concerned_by(&self, socket: &Socket, scan: &Scan) -> bool {
        self.is_lingering() && concerns(&self.facts, socket, scan)
    }

    /// A member exited.
    pub fn exit(&mut self, record: &Exit) {
        let is_leader = self.facts.exit(record);
        if !is_leader && self.reported.has_holders() {
            self.watch.member_exited(record.header.time);
        }
    }

    /// Something happened to one of its streams, or a sample was taken.
    pub fn edge(&mut self, record: &tracer_ebpf::Stream) {
        self.facts.edge(record);
        let stream = Slot::of(record.slot).and_then(|slot| self.facts.stream(slot));
        let released = stream.is_some_and(|it| it.object() == record.object && !it.hangs());
        if released && self.reported.has_holders() {
            self.watch.ask(record.header.time);
        }
    }

    /// Decides what can be decided at `now`. True when the session has ended.
    pub fn settle(&mut self, now: u64, env: &Env, next: &mut Alarm, out: &mut Vec<Update>) -> bool {
        let Self {
            facts, reported, ..
        } = self;
        let opening = opening_is_due(facts, now, next);
        let mut drafts = Vec::new();
        let losses_known = findings::losses(facts, reported, now, env, next, &mut drafts);
        findings::stalls(facts, reported, now, env, &mut drafts);
        if reported.has_holders() && !facts.outputs().any(Stream::hangs) {
            drafts.extend(findings::released(facts, reported, now));
        }
        if opening {
            self.open(out);
        }
        self.emit(drafts, env, out);
        let waits = self.linger.is_pending();
        plan_look(&self.facts, &mut self.watch, waits, now, env, next);
        has_ended(&mut self.facts, now, next) && losses_known
    }

    /// Whether it is kept after its end because of its connection; `alone` says that the connection
    /// carries no other session.
    pub fn lingers(&mut self, alone: bool, now: u64, env: &Env, next: &mut Alarm) -> bool {
        let (facts, watch, linger) = (&self.facts, &mut self.watch, &mut self.linger);
        lingers(facts, watch, linger, alone, now, env, next)
    }

    /// Draws conclusions from a complete scan.
    pub fn looked(&mut self, look: &Look<'_>, out: &mut Vec<Update>) {
        self.watch.looked(look.now);
        self.facts.looked_for_readers(look);
        if self.is_lingering() {
            self.looked_at_connection(look, out);
            return;
        }
        self.facts.looked_for_server_ends(look);
        if self.facts.leader_gone().is_none() {
            self.watch.rest(look.now);
            return;
        }
        let mut found = holders(&self.facts, look, self.watch.strangers());
        let strangers = std::mem::take(&mut found.strangers);
        let any_young = found.any_young;
        let draft = findings::held_by(&self.facts, &mut self.reported, found, look);
        self.emit(draft, look.env, out);
        let unsettled = self.reported.has_holders() || any_young;
        self.watch
            .found(&self.facts, strangers, unsettled, look.now);
    }

    fn looked_at_connection(&mut self, look: &Look<'_>, out: &mut Vec<Update>) {
        self.watch.rest_for_connection(look.now);
        let draft = match kept_by(&self.facts, look) {
            Some(kept) => {
                self.linger = Linger::Explained;
                findings::kept(&self.facts, &mut self.reported, kept, look.now)
            }
            None if look.partial => None,
            None => {
                self.watch.stop();
                self.stop_lingering(look.now)
            }
        };
        self.emit(draft, look.env, out);
    }

    /// Its connection is not kept any more, or it never was.
    fn stop_lingering(&mut self, now: u64) -> Option<Draft> {
        if self.linger == Linger::Explained {
            let ended = self.facts.connection().ended();
            self.facts.lasted(ended.unwrap_or(now));
        }
        self.linger = Linger::Unexplained;
        findings::kept_no_more(&self.facts, &mut self.reported, now)
    }

    /// Says the last word.
    pub fn close(mut self, now: u64, env: &Env, out: &mut Vec<Update>) {
        self.open(out);
        let mut drafts = Vec::new();
        drafts.extend(findings::released(&self.facts, &mut self.reported, now));
        drafts.extend(self.stop_lingering(now));
        findings::resolved_stalls(&self.facts, &mut self.reported, now, &mut drafts);
        self.emit(drafts, env, out);
        let mut closed = findings::close(&mut self.facts, now, env);
        for report in &mut closed.streams {
            let stream = self.facts.stream(report.slot);
            report.note = stream.and_then(|stream| text::note(&self.facts, stream));
        }
        self.emit(findings::near_misses(&closed.streams, now), env, out);
        out.push(Update::SessionClosed(closed));
        out.push(Update::Forget {
            session: self.facts.id(),
        });
    }

    /// Reports the session, once.
    fn open(&mut self, out: &mut Vec<Update>) {
        if self.reported.open() {
            let session = self.facts.view();
            out.push(Update::SessionOpened(Opened {
                time: session.opened,
                session: session.clone(),
                had: History::default(),
            }));
        }
    }

    /// Puts drafts into words and reports them.
    fn emit(&mut self, drafts: impl IntoIterator<Item = Draft>, env: &Env, out: &mut Vec<Update>) {
        for draft in drafts {
            self.open(out);
            if draft.state == State::Open && matches!(draft.body, FindingBody::Orphaned { .. }) {
                self.facts.held();
            }
            out.push(Update::Finding(text::finding(&self.facts, draft, env)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SessionView;

    #[test]
    fn an_open_session_is_small() {
        // Beside it: its view, and some 100 bytes and the arguments for each living process.
        let size = size_of::<Tracked>() + size_of::<SessionView>();
        assert!(size < 2048, "{size} bytes");
    }
}
