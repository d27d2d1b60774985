//! Processes that go on writing after the server has closed its end.

use lastbyte::model::{Kind, LossCause, Verdict};
use tracer_ebpf::{chld, edge};

use super::{the_loss, verdict};
use crate::scenario::{SERVER, STDERR, STDIN, STDOUT, Scenario, empty};

#[test]
fn a_writer_that_outlives_the_stream_is_cut_when_it_writes() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "seq 1 2000 > >(sleep .3; cat)")
        .spawn(5000, 5000, 5001, &["cat"]);
    scenario
        .leader_exits(5000, 0, empty())
        .chld(5000, chld::REAPED, empty())
        .closes(5000, STDIN, 0);
    for slot in [STDOUT, STDERR] {
        scenario.stream(5000, slot, edge::SERVER_CLOSE, |r| r.writers = 1);
    }
    scenario.tick().idle(300);
    assert!(scenario.closed().is_empty(), "the writer may yet write");
    assert!(scenario.findings(Kind::Truncated).is_empty());
    scenario
        .stream(5000, STDOUT, edge::EPIPE, |r| r.bytes = 8893)
        .exits(5000, 5001)
        .leaves()
        .tick();
    assert_eq!(
        the_loss(&scenario).cause(),
        Some(LossCause::WriterCut.into())
    );
    assert_eq!(
        scenario.end().verdict,
        verdict(8893, false, LossCause::WriterCut)
    );
}

#[test]
fn a_writer_that_never_writes_is_not_cut() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "sleep 4 &")
        .spawn(5000, 5000, 5001, &["sleep", "4"]);
    scenario
        .leader_exits(5000, 0, empty())
        .closes(5000, STDIN, 0);
    for slot in [STDOUT, STDERR] {
        scenario.stream(5000, slot, edge::SERVER_CLOSE, |r| r.writers = 1);
    }
    scenario.tick().idle(3900);
    assert!(scenario.closed().is_empty());
    scenario.exits(5000, 5001).leaves().tick();
    assert_eq!(scenario.end().verdict, Verdict::Clean);
}

#[test]
fn a_writer_is_not_waited_for_forever() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "sleep 400 &")
        .spawn(5000, 5000, 5001, &["sleep", "400"])
        .leader_exits(5000, 0, empty());
    scenario.closes(5000, STDIN, 0).closes(5000, STDERR, 0);
    scenario
        .stream(5000, STDOUT, edge::SERVER_CLOSE, |r| r.writers = 1)
        .tick();
    scenario.idle(29_000);
    assert!(scenario.closed().is_empty());
    scenario.idle(2_000);
    assert_eq!(scenario.end().verdict, Verdict::Clean);
    // What it does later is not reported: the session is closed.
    let words = scenario.updates.len();
    scenario
        .stream(5000, STDOUT, edge::EPIPE, |r| r.bytes = 5)
        .exits(5000, 5001)
        .tick()
        .idle(1000);
    assert_eq!(scenario.updates.len(), words);
}

#[test]
fn a_refused_write_of_nothing_is_no_loss() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "true")
        .spawn(5000, 5000, 5001, &["job"])
        .leader_exits(5000, 0, empty())
        .closes(5000, STDIN, 0);
    scenario
        .stream(5000, STDOUT, edge::SERVER_CLOSE, |r| r.writers = 1)
        .closes(5000, STDERR, 0)
        .stream(5000, STDOUT, edge::EPIPE, |r| r.bytes = 0);
    scenario.exits(5000, 5001).leaves().idle(1000);
    assert!(scenario.findings(Kind::Truncated).is_empty());
    assert_eq!(scenario.end().verdict, Verdict::Clean);
}

#[test]
fn of_a_later_write_that_fails_it_says_how_much_and_why() {
    for (exiting, killed, says) in [
        (
            1,
            false,
            "the server closed stdout while it was still being written: a later write of 100 B failed",
        ),
        (
            1,
            true,
            "was ended by SIGKILL from kill pid 99 while the command ran; a later write of 100 B to stdout failed",
        ),
    ] {
        let mut scenario = Scenario::exact();
        scenario.runs(5000, "cat big").after(5);
        if killed {
            scenario.kill(SERVER, 9);
        }
        for slot in [STDIN, STDOUT, STDERR] {
            scenario.stream(5000, slot, edge::SERVER_CLOSE, |r| {
                r.exiting = exiting;
                r.writers = u32::from(slot == STDOUT);
            });
        }
        scenario.server_exits(if killed { 9 } else { 0 }).after(1);
        scenario
            .stream(5000, STDOUT, edge::EPIPE, |r| r.bytes = 100)
            .leader_is_killed(5000, 13)
            .leaves()
            .idle(1000);
        let [loss] = scenario.findings(Kind::Truncated)[..] else {
            panic!("one loss")
        };
        assert!(loss.message.contains(says), "{}", loss.message);
    }
}
