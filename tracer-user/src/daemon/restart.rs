//! What an earlier daemon left: its open sessions, put on the road again before tracing goes on.

use tracer_ebpf::{Record, STREAMS, SessionStart};

use crate::{
    model::{Model, Update},
    probe::{KnownSession, ResumeState},
    store::{Left, Recorder},
};

/// A model and a recorder that go on, or begin.
pub struct Restarted {
    /// It knows the sessions that were open.
    pub model: Model,
    /// It goes on with them.
    pub recorder: Recorder,
    /// What has been told of them, and is to be known by whoever shows what is so now.
    pub told: Vec<Update>,
    /// What the tracer is to know; `None` when there is nothing to go on with.
    pub earlier: Option<ResumeState>,
}

impl Restarted {
    /// Takes up what is left.
    pub fn new(mut recorder: Recorder, left: Left) -> Self {
        let mut model = Model::new();
        let mut told = Vec::new();
        let mut earlier = ResumeState {
            drain: left.progress,
            ..ResumeState::default()
        };
        for session in &left.sessions {
            recorder.resume(session);
            for record in session.records.iter() {
                earlier.since = earlier.since.max(record.header().time);
                if let Record::SessionStart(start) = record {
                    earlier.sessions.push(known(start));
                }
                model.apply(record, &mut told);
            }
        }
        // That tracing began, or missed something, has been said then.
        told.retain(|update| !matches!(update, Update::Started(_) | Update::Gap(_)));
        let any = left.progress.is_some() || !left.sessions.is_empty();
        Self {
            model,
            recorder,
            told,
            earlier: any.then_some(earlier),
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
