//! Continues the sessions that were open when the last daemon ended, before tracing goes on.

use tracer_ebpf::{Record, STREAMS, SessionStart};

use crate::{
    model::{Model, Update},
    probe::{KnownSession, ResumeState},
    store::{Recorder, UnfinishedSessions},
};

/// A model and a recorder that know the sessions of an earlier daemon, if there are any.
pub struct Restarted {
    /// The model.
    pub model: Model,
    /// The recorder.
    pub recorder: Recorder,
    /// What the earlier daemon reported about these sessions, for whoever shows the current state.
    pub updates: Vec<Update>,
    /// What the tracer needs to know; `None` if there was no earlier daemon since the machine started.
    pub resume: Option<ResumeState>,
}

impl Restarted {
    /// Takes in the records of unfinished sessions.
    pub fn new(mut recorder: Recorder, unfinished: UnfinishedSessions) -> Self {
        let mut model = Model::new();
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
                model.apply(record, &mut updates);
            }
        }
        // These were about the earlier daemon.
        updates.retain(|update| !matches!(update, Update::Started(_) | Update::Gap(_)));
        let any = unfinished.progress.is_some() || !unfinished.sessions.is_empty();
        Self {
            model,
            recorder,
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
