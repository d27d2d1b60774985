//! Missing evidence never looks like good news.

use lastbyte::model::{Cut, GapReason, LossCause, Slot, Update, Verdict};
use tracer_ebpf::{Header, Kind, Loss, backend, chld, edge};
use zerocopy::IntoBytes;

use crate::scenario::{SERVER, STDIN, STDOUT, Scenario, empty, id, stdout_has};

fn gaps(scenario: &Scenario) -> Vec<(GapReason, u64)> {
    let gap = |update: &Update| match update {
        Update::Gap(gap) => Some((gap.reason, gap.lost)),
        _ => None,
    };
    scenario.updates.iter().filter_map(gap).collect()
}

#[test]
fn a_loss_makes_every_open_session_unknown() {
    let mut scenario = Scenario::exact();
    scenario.runs(5000, "a").runs(5001, "b").loses(3).tick();
    for leader in [5000, 5001] {
        scenario
            .leader_exits(leader, 0, empty())
            .closes_all(leader, 5)
            .tick();
    }
    assert_eq!(gaps(&scenario), [(GapReason::LostRecords, 3)]);
    for end in scenario.closed() {
        assert_eq!(
            (end.verdict, &end.gaps[..]),
            (Verdict::Unknown, &[GapReason::LostRecords][..])
        );
        assert!(
            end.streams
                .iter()
                .all(|stream| stream.verdict == Verdict::Unknown)
        );
    }
}

#[test]
fn a_loss_in_the_same_drain_as_the_end_counts() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "a")
        .leader_exits(5000, 0, empty())
        .closes_all(5000, 5)
        .loses(1)
        .tick();
    assert_eq!(scenario.end().verdict, Verdict::Unknown);
}

#[test]
fn later_sessions_are_whole_again() {
    let mut scenario = Scenario::exact();
    scenario
        .loses(1)
        .tick()
        .after(10)
        .runs(20_000, "a")
        .leader_exits(20_000, 0, empty())
        .closes_all(20_000, 5)
        .tick();
    assert_eq!(scenario.end().verdict, Verdict::Clean);
}

#[test]
fn a_near_miss_with_a_gap_is_unknown() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "a")
        .leader_exits(5000, 0, empty())
        .chld(5000, chld::DELIVERED, stdout_has(9, 9))
        .loses(1);
    scenario.closes_all(5000, 9).tick();
    assert_eq!(scenario.end().verdict, Verdict::Unknown);
}

#[test]
fn direct_evidence_of_a_loss_stands_in_spite_of_gaps() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "a")
        .loses(1)
        .leader_exits(5000, 0, empty())
        .closes(5000, STDIN, 0)
        .closes(5000, 2, 0);
    scenario
        .stream(5000, STDOUT, edge::SERVER_CLOSE, |r| r.unread = 77)
        .leaves()
        .tick();
    let cut = Cut {
        bytes: 77,
        exact: true,
        cause: LossCause::ServerClosedEarly,
    };
    assert_eq!(scenario.end().verdict, Verdict::Truncated(cut));
    assert_eq!(scenario.report(Slot::Stderr).verdict, Verdict::Unknown);
}

#[test]
fn a_session_that_began_before_the_tracer_is_never_clean() {
    let mut scenario = Scenario::empty();
    scenario
        .start(backend::FENTRY)
        .server(SERVER)
        .session_with(5000, |r| r.preexisting = 1)
        .ready();
    assert_eq!(gaps(&scenario), [(GapReason::Preexisting, 0)]);
    scenario
        .leader_exits(5000, 0, empty())
        .closes_all(5000, 5)
        .tick();
    assert_eq!(scenario.end().verdict, Verdict::Unknown);
}

#[test]
fn a_gap_agrees_with_what_it_counts() {
    let said = |sessions: u32, lost: u64| {
        let mut scenario = Scenario::empty();
        scenario.start(backend::FENTRY).server(SERVER);
        for leader in 5000..5000 + sessions {
            scenario.session_with(leader, |r| r.preexisting = 1);
        }
        scenario.ready().loses(lost);
        let gaps = scenario.updates.iter().filter_map(|update| match update {
            Update::Gap(gap) => Some(gap.message.clone()),
            _ => None,
        });
        gaps.collect::<Vec<_>>()
    };
    let one = said(1, 1);
    assert!(
        one[0].starts_with("1 session began before the tracer: what it wrote"),
        "{one:?}"
    );
    assert!(one[1].contains(": 1 record for want"), "{one:?}");
    let two = said(2, 2);
    assert!(
        two[0].starts_with("2 sessions began before the tracer: what they wrote"),
        "{two:?}"
    );
    assert!(two[1].contains(": 2 records for want"), "{two:?}");
}

#[test]
fn a_session_without_observed_output_is_unknown() {
    let mut scenario = Scenario::exact();
    scenario
        .session_with(5000, |r| r.streams = Default::default())
        .leader_exits(5000, 0, empty())
        .leaves()
        .tick();
    assert_eq!(scenario.end().verdict, Verdict::Unknown);
    assert_eq!(scenario.end().gaps, [GapReason::NotObserved]);
    assert!(scenario.end().streams.is_empty());
}

#[test]
fn scraps_of_a_session_count_only_if_its_start_can_have_been_lost() {
    let scraps = |scenario: &mut Scenario| {
        scenario
            .leader_exits(20_000, 0, empty())
            .stream(20_000, STDOUT, edge::SERVER_CLOSE, |r| r.unread = 40);
    };
    let mut scenario = Scenario::exact();
    scenario.loses(1).tick().after(15_000);
    scraps(&mut scenario);
    scenario.tick();
    assert!(scenario.closed().is_empty(), "it began after the loss");
    assert_eq!(scenario.model.open(), 0);

    let mut scenario = Scenario::exact();
    scenario.after(15_000);
    scraps(&mut scenario);
    scenario.loses(1).tick();
    let cut = Cut {
        bytes: 40,
        exact: true,
        cause: LossCause::ServerClosedEarly,
    };
    assert_eq!(scenario.end().verdict, Verdict::Truncated(cut));
    assert_eq!(scenario.end().session.user, None);
}

#[test]
fn a_lost_end_does_not_keep_a_session_forever() {
    let mut scenario = Scenario::exact();
    // The leader's exit and all closes are lost.
    scenario.runs(5000, "a").loses(7).tick().idle(20_000);
    assert_eq!(scenario.end().verdict, Verdict::Unknown);
    assert_eq!(scenario.model.deadline(), None);
}

#[test]
fn a_session_that_lives_on_after_a_loss_stays() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "a")
        .loses(7)
        .tick()
        .run(60_000, |scenario| {
            scenario.server_holds(5000);
        });
    assert!(scenario.closed().is_empty());
    assert_eq!(scenario.model.sessions().next().unwrap().id.0, id(5000));
}

#[test]
fn bytes_that_vanish_with_an_unseen_close_are_not_called_clean() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "a")
        .leader_exits(5000, 0, stdout_has(10, 50))
        .closes(5000, STDIN, 0)
        .closes(5000, 2, 0);
    scenario.server_exits(0).tick().idle(500);
    assert_eq!(scenario.end().verdict, Verdict::Unknown);
    assert_eq!(scenario.end().gaps, [GapReason::CloseNotSeen]);
}

#[test]
fn nothing_is_due_before_the_snapshot_is_complete() {
    let mut scenario = Scenario::empty();
    scenario.start(backend::FENTRY).server(SERVER).session(5000);
    scenario
        .loses(1)
        .after(2000)
        .scan(&mut |scenario: &mut Scenario| {
            scenario.server_holds(5000);
        });
    assert_eq!(scenario.model.deadline(), None, "a tick would do nothing");
    scenario.ready();
    assert!(scenario.model.deadline().is_some());
}

#[test]
fn an_older_loss_does_not_undo_a_younger_one() {
    let mut scenario = Scenario::exact();
    let began = scenario.now();
    scenario.loses(1);
    scenario
        .stream(20_000, STDOUT, edge::FIRST_WRITE, |_| ())
        .tick();
    scenario.after(100).tick();
    let opened = |scenario: &Scenario| {
        let opened = |it: &&Update| matches!(it, Update::SessionOpened(_));
        scenario.updates.iter().filter(opened).count()
    };
    assert_eq!(opened(&scenario), 0, "its leader started at second 20");
    scenario.after(15_000).loses(1);
    scenario.stream(20_000, STDOUT, edge::FIRST_WRITE, |_| ());
    scenario.after(300).tick();
    assert_eq!(opened(&scenario), 1);
    let late = Loss {
        header: Header {
            time: began,
            kind: Kind::Loss as u16,
            size: Kind::Loss.size() as u16,
            cpu: 0,
        },
        counts: [1; _],
    };
    scenario.apply(late.as_bytes());
    scenario.tick();
    assert_eq!(
        scenario.model.open(),
        1,
        "told of, so it is not dropped in silence"
    );
}
