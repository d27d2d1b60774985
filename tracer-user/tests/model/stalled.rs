//! Streams that do not move.

use lastbyte::model::{Kind, Slot, StallCause, State, Verdict};
use tracer_ebpf::{chld, edge};

use crate::scenario::{MS, STDERR, STDIN, STDOUT, Scenario, empty, stdout_has};

/// A sample of stdout: 64 KiB wait, the last read was `ms` ago.
fn sample(scenario: &mut Scenario, leader: u32, read_ago: u64, blocked: bool) {
    let now = scenario.now();
    scenario.stream(leader, STDOUT, edge::SAMPLE, |r| {
        r.counters.written = 165_536;
        r.counters.read = 100_000;
        r.counters.last_read = now - read_ago * MS;
        r.counters.blocked_since = if blocked { now - read_ago * MS + 1 } else { 0 };
    });
    scenario.tick();
}

#[test]
fn a_blocked_writer_is_told_after_a_second_and_until_it_moves() {
    let mut scenario = Scenario::exact();
    scenario.runs(5000, "cat big").after(5000);
    sample(&mut scenario, 5000, 900, true);
    assert!(scenario.findings(Kind::Stalled).is_empty());
    scenario.after(250);
    sample(&mut scenario, 5000, 1150, true);
    scenario.after(250);
    sample(&mut scenario, 5000, 1400, true);
    let [found] = scenario.findings(Kind::Stalled)[..] else {
        panic!("told once")
    };
    assert_eq!(
        (found.state, found.bytes(), found.stream()),
        (State::Open, 65_536, Some(Slot::Stdout))
    );
    assert_eq!(found.cause(), Some(StallCause::ServerNotReading.into()));
    assert!(found.fix.text().unwrap().contains("ps -o stat= -p 4700"));
    sample(&mut scenario, 5000, 0, false);
    assert_eq!(
        scenario.course(Kind::Stalled),
        [(State::Open, 0), (State::Resolved, 0)]
    );
}

#[test]
fn what_a_dead_command_left_unread_is_told_too() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "cat 2mb")
        .after(5000)
        .leader_exits(5000, 0, stdout_has(65_536, 165_536))
        .after(1500);
    sample(&mut scenario, 5000, 2000, false);
    assert_eq!(scenario.course(Kind::Stalled), [(State::Open, 0)]);
    scenario.after(1000).closes_all(5000, 165_536).tick();
    assert_eq!(
        scenario.course(Kind::Stalled),
        [(State::Open, 0), (State::Resolved, 0)]
    );
    assert_eq!(scenario.end().verdict, Verdict::Clean);
}

#[test]
fn an_idle_command_is_not_stalled() {
    let mut scenario = Scenario::exact();
    scenario.runs(5000, "cat").after(60_000);
    sample(&mut scenario, 5000, 50_000, false);
    scenario.stream(5000, STDIN, edge::SAMPLE, |r| {
        r.counters.written = 100;
        r.counters.blocked_since = 1;
    });
    scenario.tick();
    assert!(scenario.findings(Kind::Stalled).is_empty());
}

#[test]
fn a_writer_that_got_only_a_part_away_is_blocked_since_then() {
    let mut scenario = Scenario::exact();
    scenario.runs(5000, "cat big").after(5000);
    let read = scenario.now() - 1100 * MS;
    scenario.stream(5000, STDOUT, edge::SAMPLE, |r| {
        r.counters.written = 65_536;
        r.counters.last_read = read;
        r.counters.blocked_since = read;
    });
    scenario.tick();
    assert_eq!(scenario.course(Kind::Stalled), [(State::Open, 0)]);
}

#[test]
fn what_a_blocked_write_has_put_there_is_not_called_exact() {
    let mut scenario = Scenario::exact();
    scenario.runs(5000, "cat big").after(5000);
    let began = scenario.now() - 1100 * MS;
    scenario.stream(5000, STDOUT, edge::SAMPLE, |r| {
        r.counters.written = 0;
        r.counters.blocked_since = began;
    });
    scenario.tick();
    let [found] = scenario.findings(Kind::Stalled)[..] else {
        panic!("told once")
    };
    assert_eq!((found.bytes(), found.exact), (0, false));
    assert!(found.message.contains("while a writer is blocked"));
}

#[test]
fn a_server_that_stops_for_a_moment_is_not_stalled() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "sleep .5; echo x")
        .after(5000)
        .leader_exits(5000, 0, stdout_has(2, 2))
        .chld(5000, chld::GENERATED, stdout_has(2, 2));
    for _ in 0..3 {
        scenario.after(250);
        sample(&mut scenario, 5000, 4000, false);
    }
    scenario
        .after(200)
        .chld(5000, chld::DELIVERED, stdout_has(2, 2))
        .closes_all(5000, 165_536)
        .tick();
    assert!(scenario.findings(Kind::Stalled).is_empty());
    assert_eq!(scenario.end().verdict, Verdict::NearMiss { unread: 2 });
}

#[test]
fn what_a_job_writes_long_after_the_leader_is_not_stalled_at_once() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "job &")
        .spawn(5000, 5000, 5001, &["job"])
        .leader_exits(5000, 0, empty());
    let holders = |scenario: &mut Scenario| {
        scenario
            .server_holds(5000)
            .holds(5000, 5001, "job", &[(1, 1)]);
    };
    scenario.run(60_000, holders);
    let write = |scenario: &mut Scenario| {
        scenario.stream(5000, STDOUT, edge::SAMPLE, |r| r.counters.written = 10);
        scenario.tick();
    };
    write(&mut scenario);
    scenario.run(500, holders);
    write(&mut scenario);
    assert!(scenario.findings(Kind::Stalled).is_empty());
    scenario.run(500, holders);
    write(&mut scenario);
    assert_eq!(scenario.course(Kind::Stalled), [(State::Open, 0)]);
}

/// The client of a blocked command goes away: that ends the stall as well.
#[test]
fn a_stall_that_the_close_ends_is_remembered() {
    for (seconds, long) in [(90, true), (20, false)] {
        let mut scenario = Scenario::with_stall_after(60_000);
        scenario.runs(5000, "cat big").after(5000);
        for ago in (1..=seconds * 4).map(|quarter| quarter * 250) {
            scenario.after(250);
            sample(&mut scenario, 5000, ago, true);
        }
        scenario
            .leaves()
            .stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
                r.counters.written = 165_536;
                r.counters.read = 100_000;
                r.unread = 65_536;
                r.writers = 1;
                r.exiting = 1;
            })
            .closes(5000, STDIN, 0)
            .closes(5000, STDERR, 0)
            .leader_is_killed(5000, 13)
            .server_exits(0)
            .idle(1000);
        let had: Vec<_> = scenario.end().had.iter().map(|it| it.kind).collect();
        assert_eq!(had == [Kind::Stalled], long, "{seconds} s: {had:?}");
    }
}
