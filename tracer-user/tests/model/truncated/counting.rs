//! How many bytes, and whether that number is exact.

use lastbyte::model::{GapReason, LossCause, Slot, Verdict};
use tracer_ebpf::{backend, edge};

use super::{closed_with, verdict};
use crate::scenario::{STDERR, STDIN, STDOUT, Scenario, empty};

#[test]
fn without_releases_a_count_is_exact_only_when_nobody_could_add() {
    for (writers, exact) in [(0, true), (1, false)] {
        let mut scenario = Scenario::new(backend::SYSCALL);
        scenario
            .runs(5000, "cat big")
            .leader_exits(5000, 0, empty());
        scenario.closes(5000, STDIN, 0).closes(5000, STDERR, 0);
        scenario.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
            closed_with(100, 200)(r);
            r.writers = writers;
        });
        scenario.leaves().tick();
        assert_eq!(
            scenario.end().verdict,
            verdict(100, exact, LossCause::ServerClosedEarly)
        );
    }
}

#[test]
fn packets_that_the_server_had_no_room_for_are_unknown() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "packets")
        .leader_exits(5000, 0, empty());
    scenario.closes(5000, STDIN, 0).closes(5000, STDERR, 0);
    scenario.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
        r.packets = 1;
        r.counters.written = 1000;
        r.counters.read = 900;
    });
    scenario.leaves().tick();
    let report = scenario.report(Slot::Stdout);
    assert_eq!(report.verdict, Verdict::Unknown);
    assert_eq!((report.written, report.read), (1000, 900));
    let note = report.note.as_deref().expect("a note");
    assert!(
        note.ends_with("read packets (O_DIRECT) into too little room"),
        "{note}"
    );
    assert_eq!(scenario.end().gaps, [GapReason::Unaccounted]);
}

#[test]
fn counters_that_disagree_with_the_object_are_mentioned() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "splicer")
        .leader_exits(5000, 0, empty())
        .closes(5000, STDIN, 0)
        .closes(5000, STDERR, 0);
    scenario
        .stream(5000, STDOUT, edge::SERVER_CLOSE, |r| r.counters.read = 500)
        .leaves()
        .tick();
    assert_eq!(scenario.end().verdict, Verdict::Clean);
    let note = scenario.report(Slot::Stdout).note.clone().unwrap();
    assert!(
        note.starts_with("counters disagree: 0 B written, 500 B read, 0 B unread"),
        "{note}"
    );
}

#[test]
fn a_write_under_way_at_the_close_is_in_the_ledger() {
    let mut scenario = Scenario::new(backend::SYSCALL);
    scenario.runs(5000, "cat big").after(5);
    scenario.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
        r.counters.written = 65_536;
        r.counters.read = 100_000;
        r.unread = 4096;
        r.writers = 1;
        r.exiting = 1;
    });
    scenario.closes(5000, STDIN, 0).closes(5000, STDERR, 0);
    scenario.server_exits(0).leader_is_killed(5000, 13).leaves();
    scenario.idle(1000);
    let stdout = scenario.report(Slot::Stdout);
    assert_eq!((stdout.written, stdout.read), (104_096, 100_000));
}
