//! Continues the sessions that were open when the last daemon ended, before tracing goes on.

use tracer_ebpf::{Record, STREAMS, SessionStart};

use crate::{
    model::{Model, Update, timeline::Timelines},
    probe::{KnownSession, ResumeState},
    store::{Recorder, UnfinishedSessions},
};

/// Most open sessions whose timelines are kept in memory. A timeline has at most 256 processes with 4 command
/// lines each, below 1 MiB, and usually a few KiB. Those of further sessions are read from the database.
const MAX_TIMELINES: usize = 256;

/// A model and a recorder that know the sessions of an earlier daemon, if there are any.
pub struct Restarted {
    /// The model.
    pub model: Model,
    /// The recorder.
    pub recorder: Recorder,
    /// The timelines of open sessions.
    pub timelines: Timelines,
    /// What the earlier daemon reported about these sessions, for subscribers that show the current state.
    pub updates: Vec<Update>,
    /// What the tracer needs to know; `None` if there was no earlier daemon since the machine started.
    pub resume: Option<ResumeState>,
}

impl Restarted {
    /// Takes in the records of unfinished sessions.
    pub fn new(mut recorder: Recorder, unfinished: UnfinishedSessions) -> Self {
        let mut model = Model::new();
        let mut timelines = Timelines::open_only(MAX_TIMELINES);
        let mut updates = Vec::new();
        let mut resume = ResumeState {
            drain: unfinished.progress,
            ..ResumeState::default()
        };
        for session in &unfinished.sessions {
            recorder.resume(session);
            for record in session.records.iter() {
                resume.since = resume.since.max(record.header().time);
                if let Record::SessionStart(start) = record {
                    resume.sessions.push(known(start));
                }
                let before = updates.len();
                model.apply(record, &mut updates);
                timelines.apply(record, &updates[before..]);
            }
        }
        // These were about the earlier daemon.
        updates.retain(|update| !matches!(update, Update::Started(_) | Update::Gap(_)));
        let any = unfinished.progress.is_some() || !unfinished.sessions.is_empty();
        Self {
            model,
            recorder,
            timelines,
            updates,
            resume: any.then_some(resume),
        }
    }
}

fn known(start: &SessionStart) -> KnownSession {
    let mut objects = [0; STREAMS];
    for (object, ends) in objects.iter_mut().zip(&start.streams) {
        *object = ends.object;
    }
    KnownSession {
        session: start.session,
        server: start.server,
        objects,
    }
}
