//! What is asked of the past.

use std::time::{Duration, Instant};

use lastbyte::store::{StoreQuery, StoreReader};

use crate::{
    scenario::{SERVER, Scenario, empty},
    stories,
    trace::{PATIENCE, Trace, in_memory},
};

/// What is told of many sessions in time that a person does not notice.
const AT_ONCE: Duration = Duration::from_millis(200);
const SESSIONS: u32 = 10_000;

#[test]
fn ten_thousand_sessions_are_listed_at_once() {
    let directory = in_memory();
    let mut trace = Trace::at(directory.path());
    let records = stories::many(5000..5000 + SESSIONS, true);
    let ticks = records.len() / 25;
    let begun = Instant::now();
    for records in records.chunks(25) {
        trace.take_all(records);
        trace.updates.clear();
    }
    let elapsed = begun.elapsed();
    assert!(
        trace.recorder.flush(PATIENCE),
        "{}",
        trace.recorder.health()
    );
    let bytes = std::fs::metadata(directory.path().join("lastbyte.db"))
        .unwrap()
        .len();
    println!(
        "{} B of disk and {} B of records a session, {:?} of the tracer's time a batch of 25 records, {:?} in all",
        bytes / u64::from(SESSIONS),
        records.iter().map(Vec::len).sum::<usize>() / SESSIONS as usize,
        elapsed / ticks as u32,
        begun.elapsed(),
    );

    let reader = StoreReader::open(directory.path()).unwrap();
    let text = |text: &str| Some(text.to_owned());
    let limit = Some(50);
    for (filter, some) in [
        (
            StoreQuery {
                limit,
                ..StoreQuery::default()
            },
            50,
        ),
        (
            StoreQuery {
                user: text("alice"),
                limit,
                ..StoreQuery::default()
            },
            50,
        ),
        (
            StoreQuery {
                user: text("bob"),
                ..StoreQuery::default()
            },
            0,
        ),
        (
            StoreQuery {
                peer: text("10.0.0.17"),
                ..StoreQuery::default()
            },
            40,
        ),
        (
            StoreQuery {
                verdict: text("truncated"),
                ..StoreQuery::default()
            },
            1000,
        ),
        (
            StoreQuery {
                verdict: text("truncated"),
                peer: text("10.0.0.20"),
                ..StoreQuery::default()
            },
            40,
        ),
        (
            StoreQuery {
                command: text("target-7777"),
                ..StoreQuery::default()
            },
            1,
        ),
        (
            StoreQuery {
                kind: text("truncated"),
                limit,
                ..StoreQuery::default()
            },
            50,
        ),
    ] {
        let begun = Instant::now();
        let found = reader.sessions(&filter).unwrap();
        let took = begun.elapsed();
        assert_eq!(found.len(), some, "{filter:?}");
        let newest_first = found.is_sorted_by(|a, b| a.opened >= b.opened);
        assert!(newest_first, "{filter:?}");
        println!("{some} of {SESSIONS} in {took:?}");
        // A machine that is busy may take a few times as long.
        assert!(took < 5 * AT_ONCE, "{filter:?}: {took:?}");
    }
    let all = reader.sessions(&StoreQuery::default()).unwrap();
    let middle = Some(all[all.len() / 2].opened);
    let since = StoreQuery {
        since: middle,
        ..StoreQuery::default()
    };
    let until = StoreQuery {
        until: middle,
        ..StoreQuery::default()
    };
    let halves = reader.sessions(&since).unwrap().len() + reader.sessions(&until).unwrap().len();
    assert_eq!(halves, SESSIONS as usize);
    let of_the_middle = &all[all.len() / 2];
    let (opened, closed) = (
        of_the_middle.opened,
        of_the_middle.closed.expect("it is over"),
    );
    for (at, is_open) in [
        (opened - 1, false),
        (opened, true),
        (closed - 1, true),
        (closed, false),
    ] {
        let found = reader.sessions(&StoreQuery {
            at: Some(at),
            ..StoreQuery::default()
        });
        let found = found.unwrap().iter().any(|it| it.key == of_the_middle.key);
        assert_eq!(found, is_open, "{at} of {opened} to {closed}");
    }
    let findings = reader.findings(&StoreQuery {
        kind: text("truncated"),
        ..StoreQuery::default()
    });
    assert_eq!(findings.unwrap().len(), 1000);
}

#[test]
fn opening_takes_a_moment() {
    let directory = in_memory();
    let mut trace = Trace::at(directory.path());
    trace.take_all(&stories::many(5000..7000, true));
    assert!(trace.recorder.flush(PATIENCE));
    drop(trace);
    let begun = Instant::now();
    let trace = Trace::at(directory.path());
    let took = begun.elapsed();
    let bytes = std::fs::metadata(directory.path().join("lastbyte.db"))
        .unwrap()
        .len();
    println!("{took:?} for {bytes} B");
    assert!(took < 5 * AT_ONCE, "{took:?}");
    drop(trace);
}

/// What sshd runs before the command (xauth for X11 forwarding, the shell of ~/.ssh/rc) is a member of the
/// session before it is known what the session is.
#[test]
fn a_session_with_a_helper_before_its_command_is_found_by_its_time() {
    let directory = in_memory();
    let mut trace = Trace::at(directory.path());
    let mut scenario = Scenario::exact();
    scenario.session(5000);
    let opened = i64::try_from(scenario.now()).unwrap() + 1_700_000_000_000_000_000;
    scenario
        .after(1)
        .spawn(5000, 5000, 5001, &["sh", "-c", "xauth -q -"])
        .tick()
        .after(1)
        .exits(5000, 5001)
        .tick();
    let looked_at = |trace: &mut Trace, scenario: &mut Scenario, kept: bool| {
        trace.take_all(&std::mem::take(&mut scenario.records));
        assert!(trace.recorder.flush(PATIENCE));
        let reader = StoreReader::open(directory.path()).unwrap();
        let found = reader.session("5000").unwrap();
        let times = found.map(|found| found.opened);
        assert_eq!(times, kept.then_some(opened));
        let since = StoreQuery {
            since: Some(opened),
            until: Some(opened + 1),
            ..StoreQuery::default()
        };
        assert_eq!(reader.sessions(&since).unwrap().len(), usize::from(kept));
    };
    looked_at(&mut trace, &mut scenario, false);
    scenario
        .exec(5000, 5000, SERVER, &["bash", "-c", "xterm"])
        .tick();
    looked_at(&mut trace, &mut scenario, true);
    scenario
        .leader_exits(5000, 0, empty())
        .closes_all(5000, 0)
        .idle(3000);
    looked_at(&mut trace, &mut scenario, true);
    let reader = StoreReader::open(directory.path()).unwrap();
    let kept = reader.session("5000").unwrap().expect("kept");
    assert_eq!(kept.verdict(), Some("clean"));
}
