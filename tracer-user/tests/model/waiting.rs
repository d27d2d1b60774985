//! Connections that stay open after their last session.

use lastbyte::model::{Cause, Finding, Kind, State, Update, Verdict, WaitCause};
use tracer_ebpf::{ConnId, Kind as Record, Scan, Socket};

use crate::scenario::{SERVER, SOCK, Scenario, empty, id, proc, text};

const MONITOR: u32 = 4600;
const ESTABLISHED: u32 = 1;

/// A TCP socket between two ports of 127.0.0.1 that a scan finds.
fn socket(scenario: &mut Scenario, key: u64, (pid, parent): (u32, u32), ports: (u16, u16)) {
    scenario.put(Record::Socket, |r: &mut Socket| {
        r.session = if parent == 5000 { id(5000) } else { 0 };
        r.proc = proc(pid);
        r.parent = parent;
        r.ns_pid = pid;
        r.fd = 3;
        r.state = ESTABLISHED;
        r.comm = text("xclock");
        r.conn = ConnId {
            sock: SOCK + key,
            family: 2,
            local_port: ports.0,
            peer_port: ports.1,
            ..ConnId::default()
        };
        r.conn.local[..4].copy_from_slice(&[127, 0, 0, 1]);
        r.conn.peer[..4].copy_from_slice(&[127, 0, 0, 1]);
    });
}

/// The display that a program of the session is connected to.
fn display(scenario: &mut Scenario) {
    socket(scenario, 1, (SERVER, MONITOR), (6010, 40_000));
    socket(scenario, 2, (5001, 5000), (40_000, 6010));
}

fn forward(scenario: &mut Scenario) {
    socket(scenario, 1, (SERVER, MONITOR), (40_000, 5432));
}

/// A session that is over in every way but for its connection.
fn over(scenario: &mut Scenario) -> &mut Scenario {
    scenario
        .runs(5000, "xclock &")
        .spawn(5000, 5000, 5001, &["xclock"]);
    scenario.leader_exits(5000, 0, empty()).closes_ends(5000, 0)
}

fn course(scenario: &Scenario) -> Vec<(State, Option<Cause>)> {
    let told = |finding: &&Finding| (finding.state, finding.cause());
    scenario.findings(Kind::Waiting).iter().map(told).collect()
}

#[test]
fn a_client_that_leaves_at_once_is_not_waited_for() {
    let mut scenario = Scenario::exact();
    over(&mut scenario).tick();
    assert!(scenario.closed().is_empty(), "the client has not left yet");
    scenario.after(3).leaves().tick();
    assert_eq!(scenario.end().verdict, Verdict::Clean);
    assert!(course(&scenario).is_empty());
}

#[test]
fn an_x11_program_keeps_the_connection() {
    let mut scenario = Scenario::exact();
    over(&mut scenario).run(900, display);
    assert!(
        course(&scenario).is_empty(),
        "the client may be slow to leave"
    );
    scenario.run(4000, display);
    assert_eq!(
        course(&scenario),
        [(State::Open, Some(WaitCause::X11.into()))]
    );
    assert!(scenario.closed().is_empty());
    assert_eq!(scenario.model.open_streams().count(), 0);
    let found = scenario.findings(Kind::Waiting)[0];
    assert_eq!(
        found.message,
        "session 5000 (alice from 10.0.0.5) `bash -c 'xclock &'` exited 0 at 22:13:30 UTC, but the connection stays \
         open: xclock pid 5001 still uses its forwarded X11 display localhost:10"
    );
    assert_eq!(found.fix.now.as_deref(), Some("kill 5001"));
    assert_eq!(found.fix.warning.as_deref(), Some("ends xclock"));
    let advice = found.fix.text().unwrap();
    assert!(advice.starts_with("start ssh without -X"), "{advice}");
    assert_eq!(found.holders()[0].fds, [3]);
    assert_eq!(found.holders()[0].argv[0].as_str(), "xclock");

    scenario.leaves().tick();
    assert_eq!(
        course(&scenario)[1..],
        [(State::Resolved, Some(WaitCause::X11.into()))]
    );
    let told = &scenario.findings(Kind::Waiting)[1].message;
    assert!(
        told.ends_with("the connection ended 4.9 s after the command's end"),
        "{told}"
    );
    assert_eq!(scenario.end().verdict, Verdict::Clean);
    assert!(matches!(
        scenario.updates[scenario.updates.len() - 2..],
        [Update::SessionClosed(_), Update::Forget { .. }]
    ));
    assert_eq!(scenario.model.deadline(), None);
}

#[test]
fn a_forward_that_ends_while_the_client_stays_lets_the_session_go() {
    let mut scenario = Scenario::exact();
    over(&mut scenario).run(3500, forward);
    assert_eq!(
        course(&scenario),
        [(State::Open, Some(WaitCause::Forward.into()))]
    );
    let told = &scenario.findings(Kind::Waiting)[0].message;
    assert!(
        told.ends_with(
            "it still carries a forwarded connection between 127.0.0.1:40000 and 127.0.0.1:5432"
        ),
        "{told}"
    );
    scenario.idle(1100);
    assert_eq!(
        course(&scenario)[1..],
        [(State::Resolved, Some(WaitCause::Forward.into()))]
    );
    assert_eq!(scenario.end().verdict, Verdict::Clean);
}

#[test]
fn other_forwards_of_the_same_kind_are_no_news() {
    let mut scenario = Scenario::exact();
    let mut port = 40_000;
    over(&mut scenario).run(5000, |scenario| {
        port += 1;
        socket(scenario, 1, (SERVER, MONITOR), (port, 443));
    });
    assert_eq!(
        course(&scenario),
        [(State::Open, Some(WaitCause::Forward.into()))]
    );
    scenario.run(2000, display);
    assert_eq!(
        course(&scenario)[1..],
        [(State::Updated, Some(WaitCause::X11.into()))]
    );
}

#[test]
fn a_client_that_stays_for_reasons_of_its_own_is_no_news() {
    let mut scenario = Scenario::exact();
    over(&mut scenario).run(900, |_| ());
    assert!(scenario.closed().is_empty());
    scenario.idle(200);
    assert_eq!(scenario.end().verdict, Verdict::Clean);
    assert!(course(&scenario).is_empty());
}

#[test]
fn what_the_monitor_has_as_well_is_no_forward() {
    let mut scenario = Scenario::exact();
    over(&mut scenario).run(1100, |scenario| {
        socket(scenario, 1, (SERVER, MONITOR), (40_000, 389));
        socket(scenario, 1, (MONITOR, 1), (40_000, 389));
        socket(scenario, 0, (SERVER, MONITOR), (22, 51_234));
        socket(scenario, 9, (4800, 1), (40_001, 443));
    });
    assert!(course(&scenario).is_empty());
    assert_eq!(scenario.closed().len(), 1);
}

#[test]
fn only_the_last_session_of_a_connection_stands_for_it() {
    let mut scenario = Scenario::exact();
    scenario.runs(5010, "sleep 9");
    over(&mut scenario).tick();
    assert_eq!(scenario.end().session.id.0, id(5000));
    scenario
        .after(50)
        .leader_exits(5010, 0, empty())
        .closes_ends(5010, 0)
        .run(2000, forward);
    assert_eq!(
        course(&scenario),
        [(State::Open, Some(WaitCause::Forward.into()))]
    );
    assert_eq!(scenario.findings(Kind::Waiting)[0].session.id.0, id(5010));
}

#[test]
fn a_server_of_many_connections_is_not_waited_for() {
    let mut scenario = Scenario::exact();
    scenario.session_with(5000, |r| r.conn = ConnId::default());
    scenario
        .leader_exits(5000, 0, empty())
        .closes_ends(5000, 0)
        .tick();
    assert_eq!(scenario.end().verdict, Verdict::Clean);
}

#[test]
fn another_client_of_the_server_is_no_forward() {
    let mut scenario = Scenario::exact();
    over(&mut scenario).run(5000, |scenario| {
        socket(scenario, 1, (SERVER, MONITOR), (22, 50_001));
        socket(scenario, 2, (SERVER, MONITOR), (40_000, 5432));
    });
    assert_eq!(
        course(&scenario),
        [],
        "it is not known whose the forward is"
    );
    assert_eq!(scenario.end().verdict, Verdict::Clean);
}

#[test]
fn a_server_that_ends_takes_the_connection_with_it() {
    let mut scenario = Scenario::exact();
    over(&mut scenario).run(1500, forward);
    scenario.server_exits(0).tick();
    assert_eq!(
        course(&scenario)[1..],
        [(State::Resolved, Some(WaitCause::Forward.into()))]
    );
    assert_eq!(scenario.closed().len(), 1);
}

#[test]
fn while_a_look_takes_its_time_no_tick_is_wanted() {
    let mut scenario = Scenario::exact();
    over(&mut scenario).tick().after(1000);
    scenario.put(Record::ScanBegin, |_: &mut Scan| ()).tick();
    let deadline = scenario.model.deadline();
    assert!(
        deadline.is_none_or(|time| time > scenario.now()),
        "{deadline:?}"
    );
}
