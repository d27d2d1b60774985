//! The TCP leg: what the server had read, and whether its client got it.

use lastbyte::model::{Carried, Cut, GapReason, Kind, LossCause, Slot, Verdict};
use tracer_ebpf::{Progress, edge};

use crate::scenario::{STDERR, STDIN, STDOUT, Scenario, empty};

const ESTABLISHED: u32 = 1;
const FIN_WAIT1: u32 = 4;
const CLOSE: u32 = 7;
const CLOSE_WAIT: u32 = 8;
const ECONNRESET: u32 = 104;
const ETIMEDOUT: u32 = 110;
const KILL: u32 = 9;

/// The connection has carried 3000 B before the session.
fn at(queued: u64, acked: u64) -> Progress {
    Progress {
        queued: 3000 + queued,
        sent: 3000 + queued,
        acked: 3000 + acked,
        heard: 0,
    }
}

/// A command writes 500 B; the server reads the last 200 of them when it has queued 300 B, and
/// closes all ends when the connection has come `so far`.
fn read_all(scenario: &mut Scenario, so_far: Progress) {
    scenario
        .session_with(5000, |r| r.progress = at(0, 0))
        .exec(5000, 5000, 4700, &["bash", "-c", "report"])
        .leader_exits(5000, 0, empty());
    ends_closed(scenario, so_far, 0);
}

fn ends_closed(scenario: &mut Scenario, so_far: Progress, writers: u32) {
    for slot in [STDIN, STDERR] {
        scenario.closes(5000, slot, 0);
    }
    let now = scenario.now();
    scenario
        .stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
            r.counters.written = 500;
            r.counters.read = 500;
            r.counters.last_read = now;
            r.writers = writers;
            r.progress = so_far;
            r.mark = 3300;
            r.held = 200;
        })
        .tick();
}

fn verdict(scenario: &Scenario) -> Verdict {
    scenario.report(Slot::Stdout).verdict
}

fn lost(bytes: u64, cause: LossCause) -> Verdict {
    Verdict::Truncated(Cut {
        bytes,
        exact: false,
        cause,
    })
}

#[test]
fn what_the_client_acknowledged_is_clean_and_accounted_for() {
    let mut scenario = Scenario::exact();
    read_all(&mut scenario, at(560, 300));
    scenario
        .after(20)
        .conn_at(ESTABLISHED, CLOSE_WAIT, 0, at(700, 700))
        .tick();
    assert_eq!(verdict(&scenario), Verdict::Clean);
    let carried = Carried {
        queued: 700,
        sent: 700,
        acked: 700,
    };
    assert_eq!(scenario.end().carried, Some(carried));
}

#[test]
fn a_session_of_several_waits_for_its_bytes_to_be_acknowledged() {
    let mut scenario = Scenario::exact();
    read_all(&mut scenario, at(560, 300));
    scenario.session(6000).tick();
    scenario.run(900, |_| ());
    assert!(scenario.closed().is_empty(), "200 B are still on their way");
    scenario.run(5000, |scenario| {
        scenario.server_holds(6000).connected(at(560, 560));
    });
    assert_eq!(scenario.end().session.leader_pid, 5000);
    assert_eq!(verdict(&scenario), Verdict::Clean);
}

#[test]
fn a_server_that_dies_with_what_it_has_read_drops_it() {
    let mut scenario = Scenario::exact();
    read_all(&mut scenario, at(300, 300));
    assert!(scenario.closed().is_empty(), "it may send it yet");
    scenario
        .after(50)
        .conn_at(ESTABLISHED, FIN_WAIT1, 0, at(300, 300))
        .server_exits(1 << 8)
        .conn_at(FIN_WAIT1, CLOSE, 0, at(301, 301))
        .tick()
        .idle(1000);
    assert_eq!(verdict(&scenario), lost(200, LossCause::ServerDropped));
    let [finding] = scenario.findings(Kind::Truncated)[..] else {
        panic!("{:#?}", scenario.updates)
    };
    assert!(
        finding.message.ends_with(
            "the server read the last 200 B of stdout and never sent anything afterwards: at least \
             that much was lost in its memory"
        ),
        "{}",
        finding.message
    );
}

#[test]
fn a_command_that_closes_its_output_before_it_ends_loses_it_all_the_same() {
    let mut scenario = Scenario::exact();
    scenario.session_with(5000, |r| r.progress = at(0, 0)).exec(
        5000,
        5000,
        4700,
        &["bash", "-c", "report"],
    );
    ends_closed(&mut scenario, at(300, 300), 0);
    scenario
        .after(1)
        .leader_exits(5000, 0, empty())
        .conn_at(ESTABLISHED, FIN_WAIT1, 0, at(300, 300))
        .conn_at(FIN_WAIT1, CLOSE, ECONNRESET, at(301, 301))
        .tick()
        .idle(1000);
    assert_eq!(verdict(&scenario), lost(200, LossCause::ServerDropped));
}

#[test]
fn what_a_client_wanted_no_more_is_no_loss() {
    let mut scenario = Scenario::exact();
    scenario.session_with(5000, |r| r.progress = at(0, 0)).exec(
        5000,
        5000,
        4700,
        &["bash", "-c", "yes"],
    );
    ends_closed(&mut scenario, at(300, 300), 1);
    scenario
        .after(1)
        .leader_exits(5000, 0, empty())
        .kill(4700, KILL)
        .server_exits(KILL)
        .conn_at(ESTABLISHED, CLOSE, 0, at(300, 300))
        .tick()
        .idle(1000);
    assert_eq!(verdict(&scenario), Verdict::Clean);
}

#[test]
fn whoever_killed_it_is_to_blame() {
    let mut scenario = Scenario::exact();
    read_all(&mut scenario, at(300, 300));
    scenario
        .after(50)
        .kill(4700, KILL)
        .conn_at(ESTABLISHED, FIN_WAIT1, 0, at(300, 300))
        .server_exits(KILL)
        .conn_at(FIN_WAIT1, CLOSE, 0, at(300, 300))
        .tick()
        .idle(1000);
    assert_eq!(verdict(&scenario), lost(200, LossCause::ServerKilled));
    let [finding] = scenario.findings(Kind::Truncated)[..] else {
        panic!("{:#?}", scenario.updates)
    };
    assert!(
        finding.message.contains(
            "was ended by SIGKILL from kill pid 99 before it had sent the last 200 B that it had \
             read of stdout"
        ),
        "{}",
        finding.message
    );
}

#[test]
fn what_was_sent_and_never_acknowledged_is_undelivered() {
    let mut scenario = Scenario::exact();
    read_all(&mut scenario, at(560, 300));
    scenario
        .after(50)
        .server_exits(255 << 8)
        .conn_at(ESTABLISHED, FIN_WAIT1, 0, at(560, 300))
        .idle(20_000);
    assert!(scenario.closed().is_empty(), "the kernel still sends");
    scenario
        .conn_at(FIN_WAIT1, CLOSE, ETIMEDOUT, at(561, 300))
        .tick()
        .idle(1000);
    assert_eq!(verdict(&scenario), lost(200, LossCause::Undelivered));
}

#[test]
fn what_was_acknowledged_in_part_is_unknown() {
    let mut scenario = Scenario::exact();
    read_all(&mut scenario, at(560, 300));
    scenario
        .after(50)
        .server_exits(255 << 8)
        .conn_at(ESTABLISHED, FIN_WAIT1, 0, at(560, 400))
        .conn_at(FIN_WAIT1, CLOSE, ETIMEDOUT, at(561, 400))
        .tick()
        .idle(1000);
    assert_eq!(verdict(&scenario), Verdict::Unknown);
    assert_eq!(scenario.end().gaps, [GapReason::NotAcknowledged]);
    assert_eq!(scenario.end().verdict, Verdict::Unknown);
}

#[test]
fn a_connection_of_which_no_end_is_seen_is_given_up_on() {
    let mut scenario = Scenario::exact();
    read_all(&mut scenario, at(560, 300));
    scenario.after(50).server_exits(0).idle(149_000);
    assert!(scenario.closed().is_empty());
    scenario.idle(2_000);
    assert_eq!(verdict(&scenario), Verdict::Unknown);
}

#[test]
fn a_client_that_left_wanted_no_more() {
    for (new, error) in [(CLOSE_WAIT, 0), (CLOSE, ECONNRESET)] {
        let mut scenario = Scenario::exact();
        read_all(&mut scenario, at(300, 300));
        scenario
            .after(5)
            .conn_at(ESTABLISHED, new, error, at(300, 300))
            .tick()
            .idle(100);
        assert_eq!(verdict(&scenario), Verdict::Clean, "{new} {error}");
    }
}
