//! What is let go of.

use std::{fs, path::Path};

use lastbyte::store::{Options, Policy, StoreHealth, StoreQuery, StoreReader};

use crate::{
    stories,
    trace::{PATIENCE, Trace, in_memory, options},
};

fn size(directory: &Path) -> u64 {
    let of = |name| fs::metadata(directory.join(name)).map_or(0, |file| file.len());
    of("lastbyte.db") + of("lastbyte.db-wal")
}

fn with(directory: &Path, change: impl FnOnce(&mut Policy)) -> Options {
    let mut options = options(directory);
    change(&mut options.policy);
    options
}

#[test]
fn bytes_are_bounded_and_findings_stay_longest() {
    const MOST: u64 = 4 << 20;
    let directory = in_memory();
    let (mut trace, _) = Trace::begin(with(directory.path(), |policy| policy.max_bytes = MOST));
    let mut largest = 0;
    for leader in (5000..9000).step_by(40) {
        trace.take_all(&stories::many(leader..leader + 40, true));
        trace.updates.clear();
        assert!(trace.recorder.flush(PATIENCE));
        // What was committed has been made room for by the time the next is.
        assert!(trace.recorder.flush(PATIENCE));
        largest = largest.max(size(directory.path()));
    }
    println!("at most {largest} of {MOST} B");
    assert!(largest <= MOST, "{largest} B");
    let reader = StoreReader::open(directory.path()).unwrap();
    let sessions = reader.sessions(&StoreQuery::default()).unwrap();
    let (lossy, clean): (Vec<_>, Vec<_>) = sessions.iter().partition(|kept| kept.findings > 0);
    // All clean ones had to go before the records of one with a finding.
    let without_records = lossy.iter().filter(|kept| kept.bytes == 0).count();
    assert!(
        clean.len() < 1600 && lossy.len() == 400,
        "{} {}",
        clean.len(),
        lossy.len()
    );
    println!(
        "{} clean, {} with findings, {without_records} of these without records",
        clean.len(),
        lossy.len()
    );
    let newest = sessions.first().expect("some");
    assert_eq!(
        newest.outcome.view().leader_pid,
        8999,
        "the newest is there"
    );
    for kept in &lossy {
        assert_eq!(reader.findings_of(kept.key).unwrap().len(), 1);
    }
}

#[test]
fn what_is_old_goes_and_findings_stay_longer() {
    let directory = in_memory();
    let mut trace = Trace::at(directory.path());
    trace.take_all(&stories::many(5000..5100, true));
    assert!(trace.recorder.flush(PATIENCE));
    drop(trace);
    // The stories are of 2023.
    let kept = |policy: fn(&mut Policy)| {
        let options = with(directory.path(), policy);
        let policy = options.policy;
        let (mut trace, _) = Trace::begin(options);
        trace.recorder.set_policy(policy);
        assert!(trace.recorder.flush(PATIENCE));
        drop(trace);
        let reader = StoreReader::open(directory.path()).unwrap();
        let sessions = reader.sessions(&StoreQuery::default()).unwrap();
        let whole = sessions.iter().filter(|kept| kept.bytes > 0).count();
        (
            sessions.len(),
            whole,
            reader.findings(&StoreQuery::default()).unwrap().len(),
        )
    };
    assert_eq!(kept(|_| ()), (100, 100, 10));
    assert_eq!(kept(|policy| policy.max_age = 1), (10, 0, 10));
    assert_eq!(kept(|policy| policy.findings_max_age = 1), (0, 0, 0));
    assert!(size(directory.path()) < 200_000);
}

#[test]
fn what_is_open_is_not_let_go_of() {
    let directory = in_memory();
    let (mut trace, _) = Trace::begin(with(directory.path(), |policy| policy.max_bytes = 300_000));
    let mut scenario = crate::scenario::Scenario::exact();
    for leader in 5000..5400 {
        stories::begins(&mut scenario, leader);
    }
    for records in std::mem::take(&mut scenario.records).chunks(100) {
        trace.take_all(records);
        assert!(trace.recorder.flush(PATIENCE));
    }
    assert_eq!(trace.recorder.health(), StoreHealth::Full);
    let reader = StoreReader::open(directory.path()).unwrap();
    let sessions = reader.sessions(&StoreQuery::default()).unwrap();
    assert_eq!(sessions.len(), 400);
    let incomplete = sessions.iter().filter(|kept| kept.lost > 0).count();
    assert!((1..400).contains(&incomplete), "{incomplete}");
    for kept in sessions {
        assert!(kept.lost > 0 || kept.bytes > 0, "{kept:#?}");
    }
}
