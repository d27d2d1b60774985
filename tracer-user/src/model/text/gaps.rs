//! Why evidence is missing, in sentences.

use tracer_ebpf::loss;

use super::durations::{counted, duration};
use crate::model::view::SessionId;

/// What a [`tracer_ebpf::Loss`] counts, by place.
const LOST: [(&str, &str); loss::KINDS] = [
    ("record", " for want of room in the ring buffer"),
    ("process", ""),
    ("stream", ""),
    ("session", ""),
    ("call", ""),
    ("event", " that came while another was handled"),
];

/// The kernel side could not deliver, or not keep, so many of each kind.
pub(in crate::model) fn lost_records(counts: &[u64]) -> String {
    let parts: Vec<String> = counts
        .iter()
        .zip(LOST)
        .filter(|(count, _)| **count > 0)
        .map(|(count, (noun, why))| format!("{}{why}", counted(*count, noun)))
        .collect();
    format!(
        "evidence was lost: {}; no session open now can be called clean",
        parts.join(", ")
    )
}

/// The tracer was away since `since`, 0 when that is not known.
pub(in crate::model) fn interrupted(since: u64, now: u64) -> String {
    match since {
        0 => {
            "what an earlier tracer saw was not kept: no session that was open can be called clean"
                .to_owned()
        }
        since => format!(
            "not everything was kept or seen within the last {}: no session that was open can be called clean",
            duration(now.saturating_sub(since))
        ),
    }
}

/// So many sessions began before the tracer.
pub(in crate::model) fn preexisting(sessions: usize) -> String {
    format!(
        "{} began before the tracer: what {} wrote and lost until now is not known",
        counted(sessions as u64, "session"),
        if sessions == 1 { "it" } else { "they" },
    )
}

/// A session is not kept as there are `most` already.
pub(in crate::model) fn too_many(session: SessionId, most: usize) -> String {
    format!(
        "session {} is not followed: there are {most} already",
        session.pid()
    )
}
