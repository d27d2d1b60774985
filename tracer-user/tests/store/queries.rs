//! What is asked of the past.

use std::time::{Duration, Instant};

use lastbyte::store::{Filter, Reader};

use crate::{
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
    let road = begun.elapsed();
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
        road / ticks as u32,
        begun.elapsed(),
    );

    let reader = Reader::open(directory.path()).unwrap();
    let text = |text: &str| Some(text.to_owned());
    let limit = Some(50);
    for (filter, some) in [
        (
            Filter {
                limit,
                ..Filter::default()
            },
            50,
        ),
        (
            Filter {
                user: text("alice"),
                limit,
                ..Filter::default()
            },
            50,
        ),
        (
            Filter {
                user: text("bob"),
                ..Filter::default()
            },
            0,
        ),
        (
            Filter {
                peer: text("10.0.0.17"),
                ..Filter::default()
            },
            40,
        ),
        (
            Filter {
                verdict: text("truncated"),
                ..Filter::default()
            },
            1000,
        ),
        (
            Filter {
                verdict: text("truncated"),
                peer: text("10.0.0.20"),
                ..Filter::default()
            },
            40,
        ),
        (
            Filter {
                command: text("target-7777"),
                ..Filter::default()
            },
            1,
        ),
        (
            Filter {
                kind: text("truncated"),
                limit,
                ..Filter::default()
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
    let all = reader.sessions(&Filter::default()).unwrap();
    let middle = Some(all[all.len() / 2].opened);
    let since = Filter {
        since: middle,
        ..Filter::default()
    };
    let until = Filter {
        until: middle,
        ..Filter::default()
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
        let found = reader.sessions(&Filter {
            at: Some(at),
            ..Filter::default()
        });
        let found = found.unwrap().iter().any(|it| it.key == of_the_middle.key);
        assert_eq!(found, is_open, "{at} of {opened} to {closed}");
    }
    let findings = reader.findings(&Filter {
        kind: text("truncated"),
        ..Filter::default()
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
