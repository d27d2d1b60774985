//! Who keeps a session open.

use lastbyte::model::{Fix, Kind, Origin, Slot, State, Verdict};
use tracer_ebpf::{backend, edge, role};

use crate::scenario::{MS, SERVER, STDERR, STDOUT, Scenario, empty, id, proc, text};

const SLEEP: &[&str] = &["sleep", "20"];

/// `bash -c SCRIPT` leaves a `sleep 20` behind.
fn leaves_sleep(script: &str) -> Scenario {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, script)
        .spawn(5000, 5000, 5001, SLEEP)
        .after(5)
        .leader_exits(5000, 0, empty())
        .tick();
    scenario
}

/// What a scan finds: the server's ends, and these descriptors of the sleep.
fn sleep_holds(fds: &'static [(u32, u32)]) -> impl Fn(&mut Scenario) {
    move |scenario| {
        scenario.server_holds(5000).holds(5000, 5001, "sleep", fds);
    }
}

#[test]
fn a_background_job_is_told_after_the_grace_with_its_path_and_fix() {
    let mut scenario = leaves_sleep("sleep 20 &");
    scenario.run(990, sleep_holds(&[(1, 1), (2, 2)]));
    assert!(
        scenario.findings(Kind::Orphaned).is_empty(),
        "not before the grace is over"
    );
    scenario.run(500, sleep_holds(&[(1, 1), (2, 2)]));

    let [found] = scenario.findings(Kind::Orphaned)[..] else {
        panic!("one finding, not one a scan")
    };
    assert_eq!(found.state, State::Open);
    let holder = &found.holders()[0];
    assert_eq!((holder.pid, holder.start), (5001, proc(5001).start));
    assert_eq!(holder.fds, [1, 2]);
    assert_eq!(holder.streams, [Slot::Stdout, Slot::Stderr]);
    assert_eq!(
        holder
            .path
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["bash 5000", "sleep 5001"]
    );
    assert_eq!(holder.origin, Origin::Inherited);
    assert_eq!(
        found.message,
        "session 5000 (alice from 10.0.0.5) `bash -c 'sleep 20 &'` exited 0 at 22:13:30 UTC, but the connection \
         waits: sleep pid 5001 still holds its stdout and stderr (fds 1, 2), inherited from bash 5000"
    );
    assert_eq!(
        found.fix,
        Fix {
            now: Some("kill 5001".to_owned()),
            warning: Some("ends sleep".to_owned()),
            next: Some("sleep 20 </dev/null >sleep.log 2>&1 &".to_owned()),
            ..Fix::default()
        }
    );
}

#[test]
fn it_is_resolved_when_the_last_copy_is_closed() {
    let mut scenario = leaves_sleep("sleep 20 &");
    scenario.run(1500, sleep_holds(&[(1, 1), (2, 2)]));
    scenario
        .exits(5000, 5001)
        .stream(5000, STDOUT, edge::EOF, |_| ())
        .stream(5000, STDERR, edge::EOF, |_| ())
        .tick();
    scenario.closes_all(5000, 0).tick();
    assert_eq!(
        scenario.course(Kind::Orphaned),
        [(State::Open, 1), (State::Resolved, 1)]
    );
    let resolved = scenario.findings(Kind::Orphaned)[1];
    assert_eq!(resolved.holders()[0].pid, 5001, "it was that one");
    assert_eq!(resolved.fix.now, None, "there is nothing left to free");
    assert_eq!(
        resolved.fix.text(),
        Some("sleep 20 </dev/null >sleep.log 2>&1 &")
    );
    assert_eq!(scenario.end().verdict, Verdict::Clean);
}

#[test]
fn a_holder_that_lets_go_without_exiting_leaves_within_a_scan() {
    let mut scenario = leaves_sleep("daemon &");
    scenario
        .run(1500, sleep_holds(&[(1, 1)]))
        .run(300, |scenario| {
            scenario.server_holds(5000);
        });
    assert_eq!(
        scenario.course(Kind::Orphaned),
        [(State::Open, 1), (State::Resolved, 1)]
    );
}

#[test]
fn changing_holders_are_updates() {
    let mut scenario = leaves_sleep("a & b &");
    scenario
        .fork(5000, 5000, 5002, "bash")
        .run(1100, |scenario| {
            scenario
                .server_holds(5000)
                .holds(5000, 5001, "sleep", &[(1, 1)])
                .holds(5000, 5002, "bash", &[(1, 1)]);
        });
    // One look may find somebody who is just dying; the second is sure.
    scenario.run(300, sleep_holds(&[(1, 1)]));
    scenario.run(300, sleep_holds(&[(1, 1)]));
    assert_eq!(
        scenario.course(Kind::Orphaned),
        [(State::Open, 2), (State::Updated, 1)]
    );
}

#[test]
fn a_daemons_path_survives_its_ancestors() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "daemonize")
        .spawn(5000, 5000, 5001, &["daemonize"]);
    scenario
        .fork(5000, 5001, 5002, "daemonize")
        .exits(5000, 5001)
        .leader_exits(5000, 0, empty());
    scenario.run(1100, |scenario| {
        scenario
            .server_holds(5000)
            .holds(5000, 5002, "daemonize", &[(1, 1)]);
    });
    let path: Vec<_> = scenario.findings(Kind::Orphaned)[0].holders()[0]
        .path
        .iter()
        .map(|step| step.pid)
        .collect();
    assert_eq!(path, [5000, 5001, 5002]);
}

#[test]
fn a_received_copy_is_told_as_such_once_it_is_certain() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "hand-over")
        .leader_exits(5000, 0, empty());
    let holds = |scenario: &mut Scenario| {
        scenario
            .server_holds(5000)
            .holds(5000, 777, "keeper", &[(5, 1)]);
        scenario.process(0, 777, 1, 0, &["keeper", "--daemon"]);
    };
    scenario.run(1100, holds);
    assert!(
        scenario.findings(Kind::Orphaned).is_empty(),
        "its fork may be on its way"
    );
    scenario.run(300, holds);
    let found = scenario.findings(Kind::Orphaned)[0];
    assert_eq!(found.holders()[0].origin, Origin::Received);
    assert_eq!(found.holders()[0].argv.len(), 2);
    assert!(
        found
            .message
            .contains("received from another process and not inherited")
    );
    assert!(
        found
            .fix
            .text()
            .unwrap()
            .starts_with("let keeper pid 777 close fd 5")
    );
}

#[test]
fn servers_and_what_they_fork_are_no_holders() {
    let mut scenario = Scenario::exact();
    scenario.server(4000).runs(5000, "true");
    scenario.put(tracer_ebpf::Kind::Fork, |r: &mut tracer_ebpf::Fork| {
        r.parent = proc(SERVER);
        r.child = proc(4800);
        r.flags = role::SERVER;
    });
    scenario
        .leader_exits(5000, 0, empty())
        .run(5000, |scenario| {
            scenario
                .server_holds(5000)
                .holds(5000, SERVER, "sshd", &[(1, 1)]);
            scenario
                .holds(5000, 4000, "sshd", &[(1, 1)])
                .holds(5000, 4800, "sshd", &[(1, 1)]);
        });
    assert!(scenario.findings(Kind::Orphaned).is_empty());
}

#[test]
fn stdin_alone_holds_nothing_open() {
    let mut scenario = leaves_sleep("sleep 3 >&- 2>&- <&0 &");
    scenario
        .stream(5000, STDOUT, edge::WRITERS_GONE, |_| ())
        .run(5000, sleep_holds(&[(0, 0)]));
    assert!(scenario.findings(Kind::Orphaned).is_empty());
}

#[test]
fn a_stream_at_its_end_is_not_held() {
    let mut scenario = leaves_sleep("sleep 20 &");
    scenario
        .stream(5000, STDOUT, edge::EOF, |_| ())
        .run(1100, sleep_holds(&[(1, 1), (2, 2)]));
    assert_eq!(
        scenario.findings(Kind::Orphaned)[0].holders()[0].streams,
        [Slot::Stderr]
    );
}

#[test]
fn a_newcomer_with_the_pid_of_a_holder_is_another_process() {
    let mut scenario = leaves_sleep("sleep 20 &");
    scenario.run(1100, sleep_holds(&[(1, 1)])).exits(5000, 5001);
    scenario.run(1000, |scenario| {
        scenario.server_holds(5000);
        scenario.put(tracer_ebpf::Kind::Holder, |r: &mut tracer_ebpf::Holder| {
            r.session = id(5001);
            r.proc = tracer_ebpf::Proc {
                start: 1,
                ..proc(5001)
            };
            r.slot = 1;
            r.fd = 1;
            r.mode = 2;
            r.comm = text("sleep");
        });
    });
    assert_eq!(
        scenario.course(Kind::Orphaned),
        [(State::Open, 1), (State::Resolved, 1)]
    );
}

#[test]
fn what_is_written_after_the_leaders_end_is_counted() {
    let mut scenario = leaves_sleep("sleep 20 &");
    scenario.stream(5000, STDOUT, edge::SAMPLE, |r| {
        r.counters.written = 700;
        r.counters.read = 700;
    });
    scenario.run(1100, sleep_holds(&[(1, 1)]));
    let found = scenario.findings(Kind::Orphaned)[0];
    assert_eq!((found.bytes(), found.exact), (700, true));
    assert!(found.message.ends_with("; 700 B were written since"));
}

#[test]
fn only_one_session_of_a_connection_is_orphaned() {
    let mut scenario = leaves_sleep("sleep 5 &");
    scenario
        .runs(5100, "echo")
        .leader_exits(5100, 0, empty())
        .closes_all(5100, 5)
        .tick();
    scenario.run(1500, sleep_holds(&[(1, 1), (2, 2)]));
    let [found] = scenario.findings(Kind::Orphaned)[..] else {
        panic!("one")
    };
    assert_eq!(found.session.id.0, id(5000));
}

#[test]
fn a_hang_that_began_before_the_tracer_is_found() {
    let mut scenario = Scenario::empty();
    scenario.start(backend::SYSCALL).server(SERVER);
    scenario.session_with(5000, |r| {
        r.preexisting = 1;
        r.leader = tracer_ebpf::Proc::default();
    });
    scenario.process(id(5000), 5001, 1, 0, SLEEP).ready();
    scenario.run(1100, sleep_holds(&[(1, 1), (2, 2)]));
    let found = scenario.findings(Kind::Orphaned)[0];
    assert!(!found.exact);
    assert_eq!(found.holders()[0].origin, Origin::Unknown);
    assert_eq!(found.holders()[0].argv.len(), 2);
    assert!(
        found
            .message
            .contains(": its command exited before the tracer began, but the connection waits: "),
        "{}",
        found.message
    );
    scenario.exits(5000, 5001).closes_all(5000, 0).tick();
    assert_eq!(
        scenario.course(Kind::Orphaned).last(),
        Some(&(State::Resolved, 1))
    );
    assert_eq!(scenario.end().verdict, Verdict::Unknown);
}

#[test]
fn a_zombie_leader_counts_as_gone() {
    let mut scenario = Scenario::empty();
    scenario
        .start(backend::SYSCALL)
        .server(SERVER)
        .session_with(5000, |r| r.preexisting = 1);
    scenario.process(
        id(5000),
        5000,
        SERVER,
        role::LEADER | role::EXITED,
        &["bash"],
    );
    scenario
        .process(id(5000), 5001, 5000, 0, SLEEP)
        .ready()
        .run(1100, sleep_holds(&[(1, 1)]));
    assert_eq!(scenario.findings(Kind::Orphaned).len(), 1);
}

#[test]
fn an_incomplete_scan_acquits_nobody() {
    let mut scenario = leaves_sleep("sleep 20 &");
    scenario.run(1100, sleep_holds(&[(1, 1)]));
    scenario.after(250).tick();
    scenario.put(tracer_ebpf::Kind::ScanBegin, |_: &mut tracer_ebpf::Scan| ());
    scenario
        .put(tracer_ebpf::Kind::ScanEnd, |r: &mut tracer_ebpf::Scan| {
            r.partial = 1;
        })
        .tick();
    assert_eq!(scenario.course(Kind::Orphaned), [(State::Open, 1)]);
}

#[test]
fn scans_are_few() {
    let mut scenario = leaves_sleep("sleep 20 &");
    let mut scans = 0;
    scenario.run(11_000, |scenario| {
        scans += 1;
        sleep_holds(&[(1, 1)])(scenario);
    });
    assert!(
        (38..=45).contains(&scans),
        "4 a second while it hangs, not {scans} in 10 s"
    );

    let mut scenario = Scenario::exact();
    scenario.runs(5000, "sleep 100");
    scenario.run(60_000, |_| {
        panic!("nobody is looked for while the leader lives")
    });
    assert!(scenario.now() > 60_000 * MS);
}

#[test]
fn without_grace_a_hang_from_before_is_looked_at_as_soon_as_the_snapshot_is_there() {
    let mut scenario = Scenario::empty();
    scenario.put(tracer_ebpf::Kind::Start, |r: &mut tracer_ebpf::Start| {
        r.backend = backend::SYSCALL;
    });
    scenario.server(SERVER).session_with(5000, |r| {
        r.preexisting = 1;
        r.leader = tracer_ebpf::Proc::default();
    });
    scenario.process(id(5000), 5001, 1, 0, SLEEP).ready();
    assert!(scenario.model.needs_scan());
    scenario.scan(&mut sleep_holds(&[(1, 1)]));
    assert_eq!(scenario.course(Kind::Orphaned), [(State::Open, 1)]);
    assert!(!scenario.model.needs_scan());
}

#[test]
fn a_crowd_of_holders_does_not_hide_the_server() {
    let mut scenario = Scenario::exact();
    scenario.runs(5000, "bomb").leader_exits(5000, 0, empty());
    scenario.run(3000, |scenario| {
        for pid in 10_000..15_000 {
            scenario.holds(5000, pid, "bomb", &[(1, 1)]);
        }
        scenario.server_holds(5000);
    });
    assert!(
        scenario.closed().is_empty(),
        "the server still has its ends"
    );
    // It is told of them though; then they are killed.
    assert!(!scenario.findings(Kind::Orphaned).is_empty());
    scenario.run(3000, |scenario| {
        scenario.server_holds(5000);
    });
    assert_eq!(
        scenario.findings(Kind::Orphaned).last().unwrap().state,
        State::Resolved
    );
}

#[test]
fn a_crowd_that_comes_and_goes_has_a_bound() {
    let mut scenario = Scenario::exact();
    scenario.runs(5000, "bomb").leader_exits(5000, 0, empty());
    // All of them older than the first look.
    let mut first = 4_000;
    scenario.run(5000, |scenario| {
        // Strangers are believed at the second look.
        for pid in first..first + 6000 {
            scenario.holds(5000, pid, "bomb", &[(1, 1)]);
        }
        first = first.saturating_sub(200).max(1);
    });
    let most = scenario
        .findings(Kind::Orphaned)
        .iter()
        .map(|it| it.holders().len())
        .max();
    assert!(most.is_some_and(|most| most <= 4096), "{most:?}");
}

#[test]
fn of_an_orphan_older_than_the_tracer_it_is_known_how_long_at_least() {
    let mut scenario = Scenario::empty();
    scenario
        .start(backend::FENTRY)
        .server(SERVER)
        .found(5000, false)
        .process(id(5000), 5001, 1, 0, SLEEP)
        .ready();
    scenario.run(3_000, sleep_holds(&[(1, 1), (2, 2)]));
    assert_eq!(scenario.course(Kind::Orphaned), [(State::Open, 1)]);
    scenario.exits(5000, 5001);
    for slot in [STDOUT, STDERR] {
        scenario.stream(5000, slot, edge::EOF, |_| ());
    }
    scenario.closes_all(5000, 0).tick();
    let released = scenario.findings(Kind::Orphaned);
    let message = &released.last().expect("released").message;
    assert!(
        message.ends_with(" at least 3.0 s after the command's end"),
        "{message}"
    );
}
