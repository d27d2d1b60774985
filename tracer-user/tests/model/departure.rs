//! Who ended a session: a client that leaves politely, a server's own limit, a signal.

use lastbyte::model::{Kind, LossCause, Slot, Verdict};
use tracer_ebpf::{Stream, edge};

use crate::scenario::{MS, SERVER, STDERR, STDOUT, Scenario, empty};

/// The server closes an output with `unread` B in it while a writer lives; its client last sent
/// something `silent` ms before.
fn cut_off(scenario: &mut Scenario, slot: u32, unread: u64, silent: u64, exiting: u32) {
    let heard = scenario.now() - silent * MS;
    scenario.stream(5000, slot, edge::SERVER_CLOSE, |r: &mut Stream| {
        r.unread = unread;
        r.counters.written = 100_000;
        r.counters.read = 100_000 - unread;
        r.writers = 1;
        r.exiting = exiting;
        r.progress.heard = heard;
    });
}

/// The server of a command that writes nothing is killed.
fn loses_its_server(command: &str) -> Scenario {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, command)
        .after(2000)
        .kill(SERVER, 9)
        .after(1)
        .server_exits(9);
    cut_off(&mut scenario, STDOUT, 0, 2000, 1);
    cut_off(&mut scenario, STDERR, 0, 2000, 1);
    scenario
}

fn cause(scenario: &Scenario, slot: Slot) -> Option<LossCause> {
    match scenario.report(slot).verdict {
        Verdict::Truncated(cut) => Some(cut.cause),
        _ => None,
    }
}

/// Ctrl-C: the server has read SSH_MSG_DISCONNECT and exits before the client's FIN is there.
#[test]
fn a_client_that_spoke_just_before_has_left() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "yes")
        .after(5000)
        .server_exits(255 << 8);
    cut_off(&mut scenario, STDOUT, 65_536, 3, 1);
    cut_off(&mut scenario, STDERR, 0, 3, 1);
    scenario
        .after(50)
        .leader_exits(5000, 13, empty())
        .idle(1000);
    assert_eq!(cause(&scenario, Slot::Stdout), Some(LossCause::ClientGone));
    let findings = scenario.findings(Kind::Truncated);
    assert!(findings.iter().all(|it| it.is_routine()), "{findings:#?}");
}

#[test]
fn a_server_that_gives_up_a_silent_client_is_named() {
    for exiting in [0, 1] {
        let mut scenario = Scenario::exact();
        scenario.runs(5000, "cat big").after(9000);
        if exiting == 1 {
            scenario.server_exits(255 << 8);
        }
        cut_off(&mut scenario, STDOUT, 4096, 3000, exiting);
        cut_off(&mut scenario, STDERR, 0, 3000, exiting);
        scenario
            .after(50)
            .leader_exits(5000, 13, empty())
            .idle(40_000);
        assert_eq!(cause(&scenario, Slot::Stdout), Some(LossCause::Timeout));
        assert!(!scenario.findings(Kind::Truncated)[0].is_routine());
    }
}

/// A client that gets data adjusts its window all the time: that makes it no one who left.
#[test]
fn a_server_that_closes_early_is_not_excused_by_a_chatty_client() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "cat big")
        .after(500)
        .leader_exits(5000, 0, empty())
        .after(5);
    cut_off(&mut scenario, STDOUT, 4096, 0, 0);
    cut_off(&mut scenario, STDERR, 0, 0, 0);
    scenario.tick();
    let findings = scenario.findings(Kind::Truncated);
    assert_eq!(
        findings[0].cause(),
        Some(LossCause::ServerClosedEarly.into())
    );
}

/// The command goes on and exits 0, and nobody hears of it.
#[test]
fn a_command_that_outlives_its_killed_server_is_never_clean() {
    let mut scenario = loses_its_server("sleep 30");
    scenario
        .after(5000)
        .leader_exits(5000, 0, empty())
        .idle(40_000);
    assert_eq!(
        cause(&scenario, Slot::Stdout),
        Some(LossCause::ServerKilled)
    );
    assert!(scenario.findings(Kind::Truncated).is_empty());
}

/// `cat` comes to the end of its stdin when its server is gone, and exits 0.
#[test]
fn a_command_that_ends_with_its_killed_server_is_not_cut_off() {
    let mut scenario = loses_its_server("cat");
    scenario
        .after(3)
        .leader_exits(5000, 0, empty())
        .idle(40_000);
    assert_eq!(cause(&scenario, Slot::Stdout), None);
}

/// `pkill -u` and the end of a control group kill the server first and the command just after: its
/// output ended with it, and all of it was read.
#[test]
fn a_command_that_was_killed_after_its_server_is_not_cut_off() {
    for (signal, expected) in [
        (9, None),
        (15, None),
        // A write to the stream failed.
        (13, Some(LossCause::ServerKilled)),
    ] {
        let mut scenario = loses_its_server("sleep 300");
        scenario
            .after(5)
            .leader_is_killed(5000, signal)
            .idle(40_000);
        assert_eq!(cause(&scenario, Slot::Stdout), expected, "signal {signal}");
    }
}
