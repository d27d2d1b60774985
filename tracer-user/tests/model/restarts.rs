//! A tracer that ends, and one that goes on.

use lastbyte::model::{GapReason, Kind, State, Update, Verdict};
use tracer_ebpf::{chld, role};

use crate::scenario::{SERVER, Scenario, empty, id};

fn gaps(scenario: &Scenario) -> Vec<GapReason> {
    let gap = |update: &Update| match update {
        Update::Gap(gap) => Some(gap.reason),
        _ => None,
    };
    scenario.updates.iter().filter_map(gap).collect()
}

#[test]
fn nothing_is_missing_when_the_programs_ran_meanwhile() {
    let mut scenario = Scenario::exact();
    scenario.runs(5000, "cat").after(100).tick();
    scenario
        .resumes(60_000, true)
        .leader_exits(5000, 0, empty())
        .chld(5000, chld::DELIVERED, empty())
        .closes_all(5000, 5)
        .ready()
        .tick();
    assert_eq!(scenario.end().verdict, Verdict::Clean);
    assert!(gaps(&scenario).is_empty());
}

#[test]
fn what_ends_before_the_new_tracer_is_ready_is_told_then() {
    let mut scenario = Scenario::exact();
    scenario.runs(5000, "cat").after(100).tick();
    scenario
        .resumes(10, true)
        .leader_exits(5000, 0, empty())
        .closes_all(5000, 5)
        .tick();
    assert!(
        scenario.closed().is_empty(),
        "the snapshot is still to come"
    );
    scenario.ready();
    assert_eq!(scenario.closed().len(), 1);
}

#[test]
fn every_open_session_has_a_gap_when_nobody_saw_what_happened() {
    let mut scenario = Scenario::exact();
    scenario.runs(5000, "cat").after(100).tick();
    scenario.resumes(3_000, false).ready();
    assert_eq!(gaps(&scenario), [GapReason::Interrupted]);
    scenario
        .leader_exits(5000, 0, empty())
        .closes_all(5000, 5)
        .tick();
    let end = scenario.end();
    assert_eq!(
        (end.verdict, &end.gaps[..]),
        (Verdict::Unknown, &[GapReason::Interrupted][..])
    );
}

#[test]
fn a_session_that_is_gone_is_concluded_and_not_called_clean() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "cat")
        .runs(5001, "cat")
        .after(100)
        .tick();
    scenario.resumes(3_000, false).gone(5000).ready();
    let [end] = &scenario.closed()[..] else {
        panic!("one of two")
    };
    assert_eq!(end.session.id.0, id(5000));
    assert_eq!(end.verdict, Verdict::Unknown);
    assert_eq!(scenario.model.open(), 1);
}

#[test]
fn a_session_that_is_known_is_not_begun_again() {
    let mut scenario = Scenario::exact();
    scenario.runs(5000, "cat").after(100).tick();
    let opened = |scenario: &Scenario| {
        let is_opened = |update: &&Update| matches!(update, Update::SessionOpened(_));
        scenario.updates.iter().filter(is_opened).count()
    };
    scenario.resumes(3_000, false);
    let other = ["bash", "-c", "other"];
    scenario
        .found(5000, true)
        .process(id(5000), 5000, SERVER, role::LEADER, &other);
    scenario.ready();
    assert_eq!(opened(&scenario), 1);
    let session = scenario.model.sessions().next().unwrap();
    assert_eq!(session.command.as_deref(), Some("bash -c cat"));
    assert!(!session.preexisting);
}

#[test]
fn a_leader_that_died_meanwhile_leaves_orphans_that_are_found() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "job &")
        .spawn(5000, 5000, 5001, &["sleep", "20"])
        .after(100)
        .tick();
    scenario.resumes(3_000, false).found(5000, false).ready();
    scenario.run(2_000, |scenario: &mut Scenario| {
        scenario
            .server_holds(5000)
            .holds(5000, 5001, "sleep", &[(1, 1), (2, 2)]);
    });
    assert_eq!(scenario.course(Kind::Orphaned), [(State::Open, 1)]);
}
