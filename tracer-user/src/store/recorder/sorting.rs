//! Which session's log a record goes to.

use std::collections::{HashMap, HashSet};

use tracer_ebpf::{Holder, Proc, Record, SessionStart, Tick};

use super::{Recorder, Ticking};
use crate::{
    model::{Model, SessionId},
    store::{Records, log::Log, pending::Key},
};

impl Recorder {
    /// The log of a session, begun if need be.
    pub(super) fn log(&mut self, id: SessionId) -> &mut Log {
        let Self {
            context,
            logs,
            untold,
            touched,
            found,
            ..
        } = self;
        touched.insert(id);
        logs.entry(id).or_insert_with(|| {
            *found += 1;
            untold.insert(id);
            let mut log = Log::new(Key::New(*found), id);
            for before in context.of(id) {
                log.put(before);
            }
            Box::new(log)
        })
    }

    pub(super) fn starts(&mut self, start: &SessionStart, record: &Record<'_>, model: &Model) {
        let before = self.context.of_start(start, model);
        for id in model.audience(record).ids() {
            let log = self.log(*id);
            before.iter().for_each(|bytes| log.put(bytes));
            log.keep(record);
        }
    }

    pub(super) fn ticks(&mut self, tick: &Tick, model: &Model) {
        let audience = model.audience(&Record::Tick(tick));
        let about = audience.ids().iter();
        let about = about.map(|id| (*id, model.company(*id), model.due_of(*id)));
        self.ticking = Some(Ticking {
            tick: *tick,
            about: about.collect(),
            closed: Vec::new(),
        });
    }

    /// Ends a tick in each session that it was about.
    pub(super) fn ticked(&mut self, ticking: &Ticking, model: &Model) -> u64 {
        for (id, others, due) in &ticking.about {
            let Some(log) = self.logs.get_mut(id) else {
                continue;
            };
            if log.view.is_none() && !model.is_open(*id) {
                self.logs.remove(id);
                self.untold.remove(id);
                continue;
            }
            // The model sees to one session after the other, by their ids: those that ended before this
            // one's turn were no company any more.
            let gone = ticking.closed.iter();
            let gone = gone
                .filter(|(other, sock)| other < id && *sock == log.sock)
                .count();
            let alone = (*others as usize).saturating_sub(gone) == 0;
            log.tick(&ticking.tick, alone, *due);
            self.touched.insert(*id);
        }
        ticking.tick.header.time
    }

    /// Sorts the records of a complete scan.
    pub(super) fn scanned(&mut self, end: &Record<'_>, model: &Model) {
        self.scan.extend_from_slice(end.bytes());
        let mut all = Records::default();
        all.extend(&std::mem::take(&mut self.scan));
        let time = end.header().time;
        let looking = model.audience(end);
        let looking: HashSet<SessionId> = looking.ids().iter().copied().collect();
        let mut looks: HashMap<SessionId, (Vec<u8>, HashSet<Proc>)> = HashMap::new();
        for record in all.iter() {
            let own;
            let audience = match record {
                // It may serve sessions that have not asked for it now: only those that it served.
                Record::ScanBegin(_) | Record::ScanEnd(_) => &looking,
                _ => {
                    own = model.audience(&record).ids().iter().copied().collect();
                    &own
                }
            };
            for id in audience {
                if looking.contains(id) {
                    let (look, holders) = looks.entry(*id).or_default();
                    look.extend_from_slice(record.bytes());
                    if let Record::Holder(Holder { proc, .. }) = record {
                        holders.insert(*proc);
                    }
                } else if let Record::Socket(socket) = &record {
                    self.log(*id).socket(socket);
                }
            }
        }
        for (id, (look, holders)) in looks {
            let log = self.log(id);
            for proc in holders {
                log.servers(proc, model.server_name(proc), time);
            }
            log.look(look, time);
        }
    }
}
