//! Who lost the bytes: the server, its killer, its client or the network.

use lastbyte::model::{Kind, LossCause, Slot, Verdict};
use tracer_ebpf::{StreamNow, chld, edge};

use super::{closed_with, only_stdout_is_left, the_loss, verdict};
use crate::scenario::{MS, SERVER, STDERR, STDIN, STDOUT, Scenario, empty};

const ESTABLISHED: u32 = 1;
const FIN_WAIT1: u32 = 4;
const CLOSE: u32 = 7;
const CLOSE_WAIT: u32 = 8;
const ECONNRESET: u32 = 104;
const ETIMEDOUT: u32 = 110;

/// The end of a server that closes the moment it has reaped.
fn eager(scenario: &mut Scenario, slot: u32) {
    let mut streams = empty();
    streams[slot as usize] = StreamNow {
        unread: 22168,
        written: 65536,
        read: 43368,
    };
    scenario
        .after(5)
        .leader_exits(5000, 0, streams)
        .chld(5000, chld::DELIVERED, streams);
    scenario.chld(5000, chld::REAPED, streams).after(1);
    for other in [STDIN, STDOUT, STDERR]
        .into_iter()
        .filter(|other| *other != slot)
    {
        scenario.closes(5000, other, 0);
    }
    scenario
        .stream(5000, slot, edge::SERVER_CLOSE, closed_with(22168, 65536))
        .leaves()
        .tick();
}

#[test]
fn the_race_is_the_servers_fault() {
    let mut scenario = Scenario::exact();
    eager(scenario.runs(5000, "cat big"), STDOUT);
    let loss = the_loss(&scenario);
    assert_eq!(
        (loss.bytes(), loss.exact, loss.cause()),
        (22168, true, Some(LossCause::ServerClosedEarly.into()))
    );
    assert_eq!(loss.stream(), Some(Slot::Stdout));
    assert!(
        loss.message.ends_with(
            "the server closed stdout 1.0 ms after reaping the command with 22168 B unread: \
             at least that much never reached the client, though it saw exit status 0"
        ),
        "{}",
        loss.message
    );
    assert_eq!(
        scenario.end().verdict,
        verdict(22168, true, LossCause::ServerClosedEarly)
    );
}

#[test]
fn stderr_can_be_lost_as_well() {
    let mut scenario = Scenario::exact();
    eager(scenario.runs(5000, "echo only-line >&2"), STDERR);
    assert_eq!(the_loss(&scenario).stream(), Some(Slot::Stderr));
    assert_eq!(scenario.report(Slot::Stdout).verdict, Verdict::Clean);
}

#[test]
fn a_client_that_left_first_is_nobodys_fault() {
    for (new, error) in [(CLOSE_WAIT, 0), (CLOSE, ECONNRESET)] {
        let mut scenario = Scenario::exact();
        scenario
            .runs(5000, "yes")
            .conn(ESTABLISHED, new, error)
            .after(1);
        for slot in [STDIN, STDERR] {
            scenario.closes(5000, slot, 0);
        }
        scenario.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
            closed_with(65536, 1 << 20)(r);
            r.exiting = 1;
            r.writers = 1;
        });
        scenario.server_exits(255 << 8).tick();
        assert_eq!(
            the_loss(&scenario).cause(),
            Some(LossCause::ClientGone.into())
        );
        scenario.leader_exits(5000, 0, empty()).tick();
        assert_eq!(
            scenario.end().verdict,
            verdict(65536, true, LossCause::ClientGone)
        );
    }
}

#[test]
fn a_client_that_leaves_because_the_server_closed_is_no_excuse() {
    let mut scenario = Scenario::exact();
    only_stdout_is_left(&mut scenario);
    scenario.stream(5000, STDOUT, edge::SERVER_CLOSE, closed_with(10, 20));
    scenario.after(1).conn(ESTABLISHED, CLOSE_WAIT, 0).tick();
    assert_eq!(
        the_loss(&scenario).cause(),
        Some(LossCause::ServerClosedEarly.into())
    );
}

#[test]
fn a_reset_after_the_server_hung_up_is_no_excuse() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "cat big")
        .leader_exits(5000, 0, empty())
        .conn(ESTABLISHED, FIN_WAIT1, 0);
    scenario
        .conn(FIN_WAIT1, CLOSE, ECONNRESET)
        .after(1)
        .closes(5000, STDIN, 0)
        .closes(5000, STDERR, 0);
    scenario
        .stream(5000, STDOUT, edge::SERVER_CLOSE, closed_with(10, 20))
        .tick();
    assert_eq!(
        the_loss(&scenario).cause(),
        Some(LossCause::ServerClosedEarly.into())
    );
}

#[test]
fn a_cut_network_is_told_apart_from_a_client_that_left() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "cat big")
        .conn(ESTABLISHED, CLOSE, ETIMEDOUT)
        .after(1);
    scenario
        .stream(
            5000,
            STDOUT,
            edge::SERVER_CLOSE,
            closed_with(65536, 1 << 20),
        )
        .server_exits(255 << 8)
        .tick();
    assert_eq!(
        the_loss(&scenario).cause(),
        Some(LossCause::Undelivered.into())
    );
}

#[test]
fn a_killed_server_is_named_with_its_killer() {
    // Its exit and the release of its descriptors come in either order.
    for exit_first in [true, false] {
        let mut scenario = Scenario::exact();
        scenario.runs(5000, "cat big").kill(SERVER, 15).after(1);
        if exit_first {
            scenario.server_exits(255 << 8).tick();
            assert!(scenario.findings(Kind::Truncated).is_empty());
        }
        scenario.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
            closed_with(65536, 1 << 20)(r);
            r.exiting = 1;
            r.writers = 1;
        });
        scenario.tick();
        if !exit_first {
            scenario.server_exits(255 << 8).tick();
        }
        let loss = the_loss(&scenario);
        assert_eq!(
            loss.cause(),
            Some(LossCause::ServerKilled.into()),
            "{}",
            loss.message
        );
        assert!(
            loss.message
                .contains("sshd-session pid 4700 was ended by SIGTERM from kill pid 99"),
            "{}",
            loss.message
        );
        scenario.idle(600);
        assert_eq!(
            scenario.end().verdict,
            verdict(65536, true, LossCause::ServerKilled)
        );
        assert_eq!(scenario.end().session.exit, None, "the command may live on");
    }
}

#[test]
fn a_signal_seen_only_in_the_servers_exit_status_counts() {
    let mut scenario = Scenario::exact();
    scenario.runs(5000, "cat big").server_exits(9);
    scenario.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
        closed_with(5, 9)(r);
        r.exiting = 1;
    });
    scenario.tick();
    assert_eq!(
        the_loss(&scenario).cause(),
        Some(LossCause::ServerKilled.into())
    );
}

#[test]
fn a_server_that_gives_up_a_resting_connection_times_out() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "cat big")
        .after(30_000)
        .server_exits(255 << 8);
    let read = scenario.now() - 20_000 * MS;
    scenario.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
        closed_with(65536, 1 << 20)(r);
        r.exiting = 1;
        r.writers = 1;
        r.counters.last_read = read;
    });
    scenario.tick();
    assert_eq!(the_loss(&scenario).cause(), Some(LossCause::Timeout.into()));
}

#[test]
fn output_that_the_client_closes_is_its_own_choice() {
    let mut scenario = Scenario::exact();
    scenario.runs(5000, "while :; do date; done");
    scenario.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
        closed_with(7, 9)(r);
        r.writers = 1;
    });
    scenario.tick();
    assert_eq!(
        the_loss(&scenario).cause(),
        Some(LossCause::ClientGone.into())
    );
    scenario.closes(5000, STDERR, 0).tick().idle(60_000);
    assert!(scenario.closed().is_empty(), "the client still writes");
    scenario.closes(5000, STDIN, 0).tick();
    assert!(
        scenario.closed().is_empty(),
        "the command may follow at once"
    );
    scenario.idle(2_000);
    assert_eq!(
        scenario.end().verdict,
        verdict(7, true, LossCause::ClientGone)
    );
}
