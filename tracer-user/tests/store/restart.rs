//! The tracer ends and comes back while sessions are open.

use lastbyte::{
    model::{GapReason, SessionId, Verdict},
    store::{Outcome, StoreReader},
};
use tracer_ebpf::backend;

use crate::{
    scenario::{Scenario, id},
    stories,
    trace::{PATIENCE, Trace, in_memory, options, replay, told},
};

/// Two sessions of one connection, and where the tracer ends in between.
fn story() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut scenario = Scenario::exact();
    scenario.runs(5000, "sleep 9").runs(5001, "sleep 10").tick();
    let before = std::mem::take(&mut scenario.records);
    scenario.start(backend::FENTRY).ready().tick();
    scenario
        .after(50)
        .leader_exits(5000, 3, crate::scenario::empty())
        .closes_ends(5000, 0)
        .tick();
    stories::truncated(&mut scenario, 5002, 9);
    scenario
        .leader_exits(5001, 0, crate::scenario::empty())
        .closes_all(5001, 0)
        .tick();
    (before, std::mem::take(&mut scenario.records))
}

#[test]
fn what_was_open_goes_on_where_it_was() {
    let directory = in_memory();
    let (before, after) = story();
    let mut trace = Trace::at(directory.path());
    trace.take_all(&before);
    assert!(trace.recorder.flush(PATIENCE));
    let (progress, mut live) = (trace.progress, std::mem::take(&mut trace.updates));
    drop(trace);

    let (mut trace, left) = Trace::begin(options(directory.path()));
    assert_eq!(left.progress, Some(progress));
    let ids: Vec<u64> = left.sessions.iter().map(|session| session.id.0).collect();
    assert_eq!(ids, [id(5000), id(5001)]);
    for session in &left.sessions {
        for record in session.records.iter() {
            trace.model.apply(record, &mut trace.updates);
        }
        trace.recorder.resume(session);
    }
    trace.updates.clear();
    trace.take_all(&after);
    assert!(trace.recorder.flush(PATIENCE));
    live.extend(std::mem::take(&mut trace.updates));

    let reader = StoreReader::open(directory.path()).unwrap();
    for leader in [5000, 5001, 5002] {
        let id = SessionId(id(leader));
        let kept = reader.session(&id.to_string()).unwrap().expect("kept");
        let Outcome::Closed(closed) = &kept.outcome else {
            panic!("{kept:#?}");
        };
        let live = told(&live, id);
        assert_eq!(live.closed.as_slice(), std::slice::from_ref(closed));
        assert_eq!(closed.verdict == Verdict::Clean, leader != 5002);
        let records = reader.records(kept.key).unwrap();
        assert_eq!(told(&replay(&records), id), live, "session {leader}");
    }
}

#[test]
fn what_nobody_goes_on_with_is_marked() {
    let directory = in_memory();
    let (before, after) = story();
    let mut trace = Trace::at(directory.path());
    trace.take_all(&before);
    assert!(trace.recorder.flush(PATIENCE));
    drop(trace);

    let (mut trace, left) = Trace::begin(options(directory.path()));
    trace.recorder.resume(&left.sessions[1]);
    trace.take_all(&after);
    assert!(trace.recorder.flush(PATIENCE));
    let reader = StoreReader::open(directory.path()).unwrap();
    let name = SessionId(id(5000)).to_string();
    let kept = reader.session(&name).unwrap().expect("kept");
    assert!(matches!(kept.outcome, Outcome::Interrupted(_)), "{kept:#?}");
    assert!(kept.closed.is_some());
}

#[test]
fn another_boot_leaves_nothing_open() {
    let directory = in_memory();
    let mut trace = Trace::at(directory.path());
    trace.take_all(&story().0);
    assert!(trace.recorder.flush(PATIENCE));
    drop(trace);

    let mut options = options(directory.path());
    options.boot = "ffffffff-0000-4000-8000-000000000002".to_owned();
    let (mut trace, left) = Trace::begin(options);
    assert!(left.sessions.is_empty() && left.progress.is_none());
    let reader = StoreReader::open(directory.path()).unwrap();
    let all = reader.sessions(&Default::default()).unwrap();
    assert_eq!(all.len(), 2);
    for kept in &all {
        assert!(matches!(kept.outcome, Outcome::Interrupted(_)));
        assert_eq!(kept.verdict(), Some("unknown"));
        assert_eq!(kept.gaps(), [GapReason::Interrupted]);
    }
    // The same id again: the newest is meant, unless another boot is named.
    trace.take_all(&story().0);
    assert!(trace.recorder.flush(PATIENCE));
    let new = reader.session("5000").unwrap().expect("kept");
    assert!(matches!(new.outcome, Outcome::Open(_)));
    assert!(new.name().ends_with("@ffffffff"), "{}", new.name());
    let old = all.iter().find(|kept| kept.name().starts_with("5000-"));
    let old = old.expect("the first");
    assert_eq!(reader.session(&old.name()).unwrap().as_ref(), Some(old));
    let start = &new.name()[..6];
    assert_eq!(
        reader.session(start).unwrap().map(|kept| kept.key),
        Some(new.key)
    );
    assert_eq!(reader.session("5000-zzz").unwrap(), None);
    assert_eq!(reader.session("").unwrap(), None);
}
