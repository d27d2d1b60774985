//! Sessions in which nothing goes wrong, and when they are over.

use lastbyte::model::{ExitStatus, Kind, Slot, Update, Verdict};
use tracer_ebpf::{chld, edge, role};

use crate::scenario::{MS, SERVER, STDERR, STDIN, STDOUT, Scenario, empty, id, stdout_has};

#[test]
fn echo_is_clean_and_known_by_name() {
    let mut scenario = Scenario::exact();
    scenario.runs(5000, "echo hi");
    scenario.stream(5000, STDOUT, edge::FIRST_WRITE, |r| r.counters.written = 3);
    scenario
        .leader_exits(5000, 0, stdout_has(0, 3))
        .chld(5000, chld::DELIVERED, stdout_has(0, 3));
    scenario.closes_all(5000, 3).tick();

    let end = scenario.end();
    assert_eq!(end.verdict, Verdict::Clean);
    assert!(end.gaps.is_empty());
    assert_eq!(end.session.user.as_deref(), Some("alice"));
    assert_eq!(end.session.peer.unwrap().to_string(), "10.0.0.5:51234");
    assert_eq!(end.session.command.as_deref(), Some("bash -c 'echo hi'"));
    assert_eq!(end.session.exit, Some(ExitStatus::Code(0)));
    let stdout = scenario.report(Slot::Stdout);
    assert_eq!(
        (stdout.written, stdout.read, stdout.unread, stdout.exact),
        (3, 3, 0, true)
    );
    assert_eq!(scenario.model.open(), 0);
    assert_eq!(scenario.model.closed(), 1);
    assert_eq!(scenario.model.deadline(), None);
}

#[test]
fn a_session_is_opened_before_anything_else_is_said_of_it_and_forgotten_last() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "true")
        .leader_exits(5000, 0, empty())
        .closes_all(5000, 0)
        .tick();
    let words: Vec<_> = scenario
        .updates
        .iter()
        .map(|update| match update {
            Update::Started(_) => "started",
            Update::SessionOpened(_) => "opened",
            Update::SessionClosed(_) => "closed",
            Update::Forget { .. } => "forget",
            Update::ProcessExec(_) => "exec",
            Update::ProcessExit(_) => "exit",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        words,
        ["started", "exec", "opened", "exit", "closed", "forget"]
    );
}

#[test]
fn nothing_is_concluded_before_a_tick() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "true")
        .leader_exits(5000, 0, empty())
        .closes_all(5000, 0);
    assert!(scenario.closed().is_empty());
    scenario.tick();
    assert_eq!(scenario.end().verdict, Verdict::Clean);
}

#[test]
fn late_reads_make_a_near_miss() {
    let mut scenario = Scenario::exact();
    scenario.runs(5000, "cat big").after(5);
    scenario.leader_exits(5000, 0, stdout_has(4096, 100_000));
    scenario
        .after(1)
        .chld(5000, chld::GENERATED, stdout_has(4096, 100_000));
    scenario
        .after(1)
        .chld(5000, chld::DELIVERED, stdout_has(2048, 100_000));
    scenario.after(3).closes_all(5000, 100_000).tick();

    assert_eq!(scenario.end().verdict, Verdict::NearMiss { unread: 2048 });
    assert_eq!(scenario.report(Slot::Stdout).margin_ns, Some(3 * MS as i64));
    assert_eq!(scenario.report(Slot::Stderr).verdict, Verdict::Clean);
    let [miss] = scenario.findings(Kind::NearMiss)[..] else {
        panic!("one near miss")
    };
    assert_eq!(
        (miss.bytes(), miss.stream(), miss.margin_ns()),
        (2048, Some(Slot::Stdout), Some(3 * MS as i64))
    );
}

#[test]
fn a_missing_delivery_is_replaced_by_the_reaping() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "cat big")
        .leader_exits(5000, 0, stdout_has(9, 10));
    scenario
        .chld(5000, chld::GENERATED, stdout_has(9, 10))
        .chld(5000, chld::REAPED, stdout_has(5, 10));
    scenario.closes_all(5000, 10).tick();
    assert_eq!(scenario.end().verdict, Verdict::NearMiss { unread: 5 });
}

#[test]
fn a_command_that_closes_its_output_early_lives_on() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "exec >&- 2>&-; sleep 2; exit 5")
        .closes_ends(5000, 0)
        .tick();
    scenario.idle(1900);
    assert!(scenario.closed().is_empty());
    scenario.leader_exits(5000, 5, empty()).leaves().tick();
    assert_eq!(scenario.end().verdict, Verdict::Clean);
    assert_eq!(scenario.end().session.exit, Some(ExitStatus::Code(5)));
}

#[test]
fn what_a_command_leaves_of_its_input_is_no_loss() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "head -1")
        .leader_exits(5000, 0, empty());
    scenario.stream(5000, STDIN, edge::SESSION_CLOSE, |r| {
        r.unread = 4000;
        r.counters.written = 8096;
        r.counters.read = 4096;
    });
    scenario.stream(5000, STDIN, edge::EPIPE, |r| r.bytes = 100);
    scenario.closes_all(5000, 0).tick();
    assert_eq!(scenario.end().verdict, Verdict::Clean);
    assert_eq!(scenario.report(Slot::Stdin).unread, 4000);
}

#[test]
fn two_streams_on_one_object_are_told_once() {
    let mut scenario = Scenario::exact();
    scenario
        .session_with(5000, |r| r.streams[2] = r.streams[1])
        .tick();
    scenario
        .leader_exits(5000, 0, empty())
        .closes(5000, STDIN, 0)
        .closes(5000, STDOUT, 7)
        .leaves()
        .tick();
    let slots: Vec<_> = scenario
        .end()
        .streams
        .iter()
        .map(|report| report.slot)
        .collect();
    assert_eq!(slots, [Slot::Stdin, Slot::Stdout]);
}

#[test]
fn internal_sftp_never_executes_anything() {
    let mut scenario = Scenario::exact();
    scenario.session(5000).tick();
    assert!(
        !scenario
            .updates
            .iter()
            .any(|update| matches!(update, Update::SessionOpened(_))),
        "an exec may follow"
    );
    scenario.idle(300);
    assert!(
        scenario
            .updates
            .iter()
            .any(|update| matches!(update, Update::SessionOpened(_)))
    );
    scenario
        .leader_exits(5000, 0, empty())
        .closes_all(5000, 40)
        .tick();
    assert_eq!(scenario.end().session.command, None);
    assert_eq!(scenario.end().verdict, Verdict::Clean);
}

#[test]
fn a_command_is_what_the_leader_executed_first() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "exec env")
        .exec(5000, 5000, SERVER, &["env"]);
    scenario
        .leader_exits(5000, 0, empty())
        .closes_all(5000, 0)
        .tick();
    assert_eq!(
        scenario.end().session.command.as_deref(),
        Some("bash -c 'exec env'")
    );
}

#[test]
fn the_stderr_of_a_subsystem_is_nobodys() {
    let mut scenario = Scenario::exact();
    scenario
        .session(5000)
        .stream(5000, STDERR, edge::SERVER_CLOSE, |r| r.writers = 1)
        .tick();
    scenario.after(50).stream(5000, STDERR, edge::EPIPE, |r| {
        r.pid = 5000;
        r.bytes = 30;
        r.readers = 0;
    });
    scenario
        .leader_exits(5000, 0, empty())
        .closes(5000, STDIN, 0)
        .closes(5000, STDOUT, 9)
        .leaves()
        .tick();
    assert_eq!(scenario.end().verdict, Verdict::Clean);
    assert_eq!(
        scenario.report(Slot::Stderr).note.as_deref(),
        Some("the server does not listen to stderr")
    );
}

#[test]
fn an_end_closed_before_the_session_began_is_found_by_looking() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "subsystem")
        .leader_exits(5000, 0, empty());
    scenario.closes(5000, STDIN, 0).closes(5000, STDOUT, 9);
    scenario.leaves().tick();
    assert!(scenario.closed().is_empty());
    scenario.idle(1500);
    assert_eq!(scenario.end().verdict, Verdict::Clean);
}

#[test]
fn a_server_that_exits_has_closed_everything() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "subsystem")
        .leader_exits(5000, 0, empty())
        .closes(5000, STDOUT, 9)
        .server_exits(0)
        .tick();
    assert!(scenario.closed().is_empty(), "closes may follow");
    scenario.idle(300);
    assert_eq!(scenario.end().verdict, Verdict::Clean);
}

#[test]
fn a_standing_stdin_does_not_keep_a_session() {
    let mut scenario = Scenario::exact();
    scenario.runs(5000, "true").leader_exits(5000, 0, empty());
    scenario.closes(5000, STDOUT, 0).closes(5000, STDERR, 0);
    scenario.leaves().tick();
    scenario.run(2500, |scenario| {
        scenario.server_holds(5000);
    });
    assert_eq!(scenario.end().verdict, Verdict::Clean);
}

#[test]
fn sessions_on_one_connection_are_apart() {
    let mut scenario = Scenario::exact();
    scenario.runs(5000, "sleep 5 &").runs(5001, "echo");
    scenario
        .leader_exits(5001, 0, empty())
        .closes_ends(5001, 5)
        .tick();
    assert_eq!(scenario.end().session.id.0, id(5001));
    assert_eq!(
        scenario
            .model
            .sessions()
            .map(|session| session.id.0)
            .collect::<Vec<_>>(),
        [id(5000)]
    );
}

#[test]
fn streams_are_sampled_until_the_server_closes_them() {
    let mut scenario = Scenario::exact();
    scenario.runs(5000, "cat");
    assert_eq!(scenario.model.open_streams().count(), 3);
    scenario.after(1).closes(5000, STDIN, 0).tick();
    let open: Vec<_> = scenario
        .model
        .open_streams()
        .map(|stream| stream.slot)
        .collect();
    assert_eq!(open, [Slot::Stdout, Slot::Stderr]);
}

#[test]
fn a_server_inside_a_session_is_a_member() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "./sshd -D &")
        .fork(5000, 5000, 5001, "bash");
    scenario.put(tracer_ebpf::Kind::Exec, |r: &mut tracer_ebpf::Exec| {
        r.session = id(5000);
        r.proc = crate::scenario::proc(5001);
        r.parent = 5000;
        r.flags = role::SERVER;
        r.comm = crate::scenario::text("sshd");
        r.argv[..5].copy_from_slice(b"sshd\0");
        r.argv_len = 5;
        r.argv_full = 5;
    });
    scenario.leader_exits(5000, 0, empty());
    scenario.run(1100, |scenario| {
        scenario
            .server_holds(5000)
            .holds(5000, 5001, "sshd", &[(1, 1)]);
    });
    assert_eq!(scenario.findings(Kind::Orphaned)[0].holders()[0].pid, 5001);
}

#[test]
fn an_edge_that_overtakes_the_start_on_another_cpu_is_part_of_the_session() {
    let mut scenario = Scenario::exact();
    scenario.stream(5000, STDIN, edge::SERVER_CLOSE, |r| r.refs = 1);
    scenario
        .runs(5000, "echo hi")
        .leader_exits(5000, 0, empty())
        .closes(5000, STDOUT, 0)
        .closes(5000, STDERR, 0)
        .leaves()
        .tick();

    let end = scenario.end();
    assert_eq!(end.verdict, Verdict::Clean);
    assert!(end.gaps.is_empty(), "nothing was lost: {:?}", end.gaps);
}
