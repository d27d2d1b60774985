//! A tracer that ends, and one that goes on.

use lastbyte::model::{GapReason, Kind, State, Update, Verdict};
use tracer_ebpf::{chld, role};

use crate::road::{Road, SERVER, empty, id};

fn gaps(road: &Road) -> Vec<GapReason> {
    let gap = |update: &Update| match update {
        Update::Gap(gap) => Some(gap.reason),
        _ => None,
    };
    road.updates.iter().filter_map(gap).collect()
}

#[test]
fn nothing_is_missing_when_the_programs_ran_meanwhile() {
    let mut road = Road::exact();
    road.runs(5000, "cat").after(100).tick();
    road.resumes(60_000, true)
        .leader_exits(5000, 0, empty())
        .chld(5000, chld::DELIVERED, empty())
        .closes_all(5000, 5)
        .ready()
        .tick();
    assert_eq!(road.end().verdict, Verdict::Clean);
    assert!(gaps(&road).is_empty());
}

#[test]
fn what_ends_before_the_new_tracer_is_ready_is_told_then() {
    let mut road = Road::exact();
    road.runs(5000, "cat").after(100).tick();
    road.resumes(10, true)
        .leader_exits(5000, 0, empty())
        .closes_all(5000, 5)
        .tick();
    assert!(road.closed().is_empty(), "the snapshot is still to come");
    road.ready();
    assert_eq!(road.closed().len(), 1);
}

#[test]
fn every_open_session_has_a_gap_when_nobody_saw_what_happened() {
    let mut road = Road::exact();
    road.runs(5000, "cat").after(100).tick();
    road.resumes(3_000, false).ready();
    assert_eq!(gaps(&road), [GapReason::Interrupted]);
    road.leader_exits(5000, 0, empty())
        .closes_all(5000, 5)
        .tick();
    let end = road.end();
    assert_eq!(
        (end.verdict, &end.gaps[..]),
        (Verdict::Unknown, &[GapReason::Interrupted][..])
    );
}

#[test]
fn a_session_that_is_gone_is_concluded_and_not_called_clean() {
    let mut road = Road::exact();
    road.runs(5000, "cat").runs(5001, "cat").after(100).tick();
    road.resumes(3_000, false).gone(5000).ready();
    let [end] = &road.closed()[..] else {
        panic!("one of two")
    };
    assert_eq!(end.session.id.0, id(5000));
    assert_eq!(end.verdict, Verdict::Unknown);
    assert_eq!(road.model.open(), 1);
}

#[test]
fn a_session_that_is_known_is_not_begun_again() {
    let mut road = Road::exact();
    road.runs(5000, "cat").after(100).tick();
    let opened = |road: &Road| {
        let is_opened = |update: &&Update| matches!(update, Update::SessionOpened(_));
        road.updates.iter().filter(is_opened).count()
    };
    road.resumes(3_000, false);
    let other = ["bash", "-c", "other"];
    road.found(5000, true)
        .process(id(5000), 5000, SERVER, role::LEADER, &other);
    road.ready();
    assert_eq!(opened(&road), 1);
    let session = road.model.sessions().next().unwrap();
    assert_eq!(session.command.as_deref(), Some("bash -c cat"));
    assert!(!session.preexisting);
}

#[test]
fn a_leader_that_died_meanwhile_leaves_orphans_that_are_found() {
    let mut road = Road::exact();
    road.runs(5000, "job &")
        .spawn(5000, 5000, 5001, &["sleep", "20"])
        .after(100)
        .tick();
    road.resumes(3_000, false).found(5000, false).ready();
    road.run(2_000, |road: &mut Road| {
        road.server_holds(5000)
            .holds(5000, 5001, "sleep", &[(1, 1), (2, 2)]);
    });
    assert_eq!(road.course(Kind::Orphaned), [(State::Open, 1)]);
}
