//! A server end that several processes have: only the last close counts.

use lastbyte::model::{Kind, LossCause, Verdict};
use tracer_ebpf::{backend, edge};

use super::{closed_with, only_stdout_is_left, verdict};
use crate::scenario::{STDOUT, Scenario};

#[test]
fn a_close_by_one_of_several_owners_is_not_yet_the_end() {
    let mut scenario = Scenario::exact();
    only_stdout_is_left(&mut scenario);
    scenario.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
        closed_with(50, 100)(r);
        r.refs = 2;
    });
    scenario.tick().after(100);
    assert!(scenario.findings(Kind::Truncated).is_empty());
    scenario.stream(5000, STDOUT, edge::SAMPLE, |r| {
        r.counters.written = 100;
        r.counters.read = 100;
    });
    scenario.tick().after(900).closes(5000, STDOUT, 100);
    scenario.leaves().tick();
    assert!(scenario.findings(Kind::Truncated).is_empty());
    assert_eq!(scenario.end().verdict, Verdict::Clean);
}

#[test]
fn while_another_process_of_the_server_has_the_end_a_close_is_not_the_end() {
    let mut scenario = Scenario::new(backend::SYSCALL);
    only_stdout_is_left(&mut scenario);
    scenario.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
        closed_with(50, 100)(r);
        r.refs = 2;
    });
    scenario.run(30_000, |scenario| {
        scenario.server_holds(5000);
    });
    assert!(scenario.findings(Kind::Truncated).is_empty());
    assert!(scenario.closed().is_empty());
    scenario.stream(5000, STDOUT, edge::SAMPLE, |r| {
        (r.counters.written, r.counters.read) = (100, 100);
    });
    scenario.tick().closes(5000, STDOUT, 100).leaves().tick();
    assert!(scenario.findings(Kind::Truncated).is_empty());
    assert_eq!(scenario.end().verdict, Verdict::Clean);
}

#[test]
fn once_no_process_of_the_server_has_the_end_a_shared_close_is_the_end() {
    let mut scenario = Scenario::new(backend::SYSCALL);
    only_stdout_is_left(&mut scenario);
    scenario.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
        closed_with(50, 100)(r);
        (r.counters.read, r.refs) = (50, 2);
    });
    scenario.run(250, |_| ());
    assert!(
        scenario.findings(Kind::Truncated).is_empty(),
        "not looked yet"
    );
    scenario.run(100, |_| ());
    assert_eq!(scenario.findings(Kind::Truncated).len(), 1);
    scenario.leaves().tick();
    assert_eq!(
        scenario.end().verdict,
        verdict(50, true, LossCause::ServerClosedEarly)
    );
}

#[test]
fn each_close_by_one_of_several_owners_is_given_time() {
    let mut scenario = Scenario::exact();
    only_stdout_is_left(&mut scenario);
    for refs in [3, 2] {
        scenario.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
            closed_with(50, 100)(r);
            r.refs = refs;
        });
        scenario.tick().after(250);
    }
    scenario.tick();
    assert!(scenario.findings(Kind::Truncated).is_empty());
    scenario.closes(5000, STDOUT, 100).leaves().tick();
    assert_eq!(scenario.end().verdict, Verdict::Clean);
}

#[test]
fn when_a_childs_copy_goes_last_the_most_unread_counts() {
    let mut scenario = Scenario::new(backend::SYSCALL);
    only_stdout_is_left(&mut scenario);
    for (unread, refs) in [(50, 2), (80, 1)] {
        scenario
            .after(1)
            .stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
                closed_with(unread, 100)(r);
                r.counters.read = 20;
                r.refs = refs;
            });
    }
    scenario.leaves().tick();
    assert_eq!(
        scenario.end().verdict,
        verdict(80, true, LossCause::ServerClosedEarly)
    );
}
