//! Lost bytes, and who lost them.

use lastbyte::model::{Cause, Cut, Finding, GapReason, Kind, Slot, Verdict};
use tracer_ebpf::{Exit, Stream, StreamNow, backend, chld, edge, transport};

use crate::road::{MS, Road, SERVER, STDERR, STDIN, STDOUT, empty, id, object, proc};

const ESTABLISHED: u32 = 1;
const FIN_WAIT1: u32 = 4;
const CLOSE: u32 = 7;
const CLOSE_WAIT: u32 = 8;
const ECONNRESET: u32 = 104;
const ETIMEDOUT: u32 = 110;

/// Stdout is closed with `unread` of `written` bytes in it.
fn closed_with(unread: u64, written: u64) -> impl Fn(&mut Stream) {
    move |r| {
        r.unread = unread;
        r.counters.written = written;
        r.counters.read = written - unread;
    }
}

fn the_loss(road: &Road) -> &Finding {
    match road.findings(Kind::Truncated)[..] {
        [one] => one,
        ref other => panic!("{other:#?}"),
    }
}

fn verdict(bytes: u64, exact: bool, cause: Cause) -> Verdict {
    Verdict::Truncated(Cut {
        bytes,
        exact,
        cause,
    })
}

/// The end of a server that closes the moment it has reaped.
fn eager(road: &mut Road, slot: u32) {
    let mut streams = empty();
    streams[slot as usize] = StreamNow {
        unread: 22168,
        written: 65536,
        read: 43368,
    };
    road.after(5)
        .leader_exits(5000, 0, streams)
        .chld(5000, chld::DELIVERED, streams);
    road.chld(5000, chld::REAPED, streams).after(1);
    for other in [STDIN, STDOUT, STDERR]
        .into_iter()
        .filter(|other| *other != slot)
    {
        road.closes(5000, other, 0);
    }
    road.stream(5000, slot, edge::SERVER_CLOSE, closed_with(22168, 65536))
        .leaves()
        .tick();
}

/// A command that exited, and of whose streams the server has only stdout.
fn only_stdout_is_left(road: &mut Road) {
    road.runs(5000, "cat big").leader_exits(5000, 0, empty());
    road.closes(5000, STDIN, 0).closes(5000, STDERR, 0);
}

#[test]
fn the_race_is_the_servers_fault() {
    let mut road = Road::exact();
    eager(road.runs(5000, "cat big"), STDOUT);
    let loss = the_loss(&road);
    assert_eq!(
        (loss.bytes, loss.exact, loss.cause),
        (22168, true, Some(Cause::ServerClosedEarly))
    );
    assert_eq!(loss.stream, Some(Slot::Stdout));
    assert!(
        loss.message.ends_with(
            "the server closed stdout 1.0 ms after reaping the command with 22168 B unread: \
             at least that much never reached the client, though it saw exit status 0"
        ),
        "{}",
        loss.message
    );
    assert_eq!(
        road.end().verdict,
        verdict(22168, true, Cause::ServerClosedEarly)
    );
}

#[test]
fn stderr_can_be_lost_as_well() {
    let mut road = Road::exact();
    eager(road.runs(5000, "echo only-line >&2"), STDERR);
    assert_eq!(the_loss(&road).stream, Some(Slot::Stderr));
    assert_eq!(road.report(Slot::Stdout).verdict, Verdict::Clean);
}

#[test]
fn without_releases_a_count_is_exact_only_when_nobody_could_add() {
    for (writers, exact) in [(0, true), (1, false)] {
        let mut road = Road::new(backend::SYSCALL);
        road.runs(5000, "cat big").leader_exits(5000, 0, empty());
        road.closes(5000, STDIN, 0).closes(5000, STDERR, 0);
        road.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
            closed_with(100, 200)(r);
            r.writers = writers;
        });
        road.leaves().tick();
        assert_eq!(
            road.end().verdict,
            verdict(100, exact, Cause::ServerClosedEarly)
        );
    }
}

#[test]
fn a_client_that_left_first_is_nobodys_fault() {
    for (new, error) in [(CLOSE_WAIT, 0), (CLOSE, ECONNRESET)] {
        let mut road = Road::exact();
        road.runs(5000, "yes")
            .conn(ESTABLISHED, new, error)
            .after(1);
        for slot in [STDIN, STDERR] {
            road.closes(5000, slot, 0);
        }
        road.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
            closed_with(65536, 1 << 20)(r);
            r.exiting = 1;
            r.writers = 1;
        });
        road.server_exits(255 << 8).tick();
        assert_eq!(the_loss(&road).cause, Some(Cause::ClientGone));
        road.leader_exits(5000, 0, empty()).tick();
        assert_eq!(road.end().verdict, verdict(65536, true, Cause::ClientGone));
    }
}

#[test]
fn a_client_that_leaves_because_the_server_closed_is_no_excuse() {
    let mut road = Road::exact();
    only_stdout_is_left(&mut road);
    road.stream(5000, STDOUT, edge::SERVER_CLOSE, closed_with(10, 20));
    road.after(1).conn(ESTABLISHED, CLOSE_WAIT, 0).tick();
    assert_eq!(the_loss(&road).cause, Some(Cause::ServerClosedEarly));
}

#[test]
fn a_reset_after_the_server_hung_up_is_no_excuse() {
    let mut road = Road::exact();
    road.runs(5000, "cat big")
        .leader_exits(5000, 0, empty())
        .conn(ESTABLISHED, FIN_WAIT1, 0);
    road.conn(FIN_WAIT1, CLOSE, ECONNRESET)
        .after(1)
        .closes(5000, STDIN, 0)
        .closes(5000, STDERR, 0);
    road.stream(5000, STDOUT, edge::SERVER_CLOSE, closed_with(10, 20))
        .tick();
    assert_eq!(the_loss(&road).cause, Some(Cause::ServerClosedEarly));
}

#[test]
fn a_cut_network_is_told_apart_from_a_client_that_left() {
    let mut road = Road::exact();
    road.runs(5000, "cat big")
        .conn(ESTABLISHED, CLOSE, ETIMEDOUT)
        .after(1);
    road.stream(
        5000,
        STDOUT,
        edge::SERVER_CLOSE,
        closed_with(65536, 1 << 20),
    )
    .server_exits(255 << 8)
    .tick();
    assert_eq!(the_loss(&road).cause, Some(Cause::Undelivered));
}

#[test]
fn a_killed_server_is_named_with_its_killer() {
    // Its exit and the release of its descriptors come in either order.
    for exit_first in [true, false] {
        let mut road = Road::exact();
        road.runs(5000, "cat big").kill(SERVER, 15).after(1);
        if exit_first {
            road.server_exits(255 << 8).tick();
            assert!(road.findings(Kind::Truncated).is_empty());
        }
        road.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
            closed_with(65536, 1 << 20)(r);
            r.exiting = 1;
            r.writers = 1;
        });
        road.tick();
        if !exit_first {
            road.server_exits(255 << 8).tick();
        }
        let loss = the_loss(&road);
        assert_eq!(loss.cause, Some(Cause::ServerKilled), "{}", loss.message);
        assert!(
            loss.message
                .contains("sshd-session pid 4700 was ended by SIGTERM from kill pid 99"),
            "{}",
            loss.message
        );
        road.idle(600);
        assert_eq!(
            road.end().verdict,
            verdict(65536, true, Cause::ServerKilled)
        );
        assert_eq!(road.end().session.exit, None, "the command may live on");
    }
}

#[test]
fn a_signal_seen_only_in_the_servers_exit_status_counts() {
    let mut road = Road::exact();
    road.runs(5000, "cat big").server_exits(9);
    road.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
        closed_with(5, 9)(r);
        r.exiting = 1;
    });
    road.tick();
    assert_eq!(the_loss(&road).cause, Some(Cause::ServerKilled));
}

#[test]
fn a_server_that_gives_up_a_resting_connection_times_out() {
    let mut road = Road::exact();
    road.runs(5000, "cat big")
        .after(30_000)
        .server_exits(255 << 8);
    let read = road.now() - 20_000 * MS;
    road.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
        closed_with(65536, 1 << 20)(r);
        r.exiting = 1;
        r.writers = 1;
        r.counters.last_read = read;
    });
    road.tick();
    assert_eq!(the_loss(&road).cause, Some(Cause::Timeout));
}

#[test]
fn a_writer_that_outlives_the_stream_is_cut_when_it_writes() {
    let mut road = Road::exact();
    road.runs(5000, "seq 1 2000 > >(sleep .3; cat)")
        .spawn(5000, 5000, 5001, &["cat"]);
    road.leader_exits(5000, 0, empty())
        .chld(5000, chld::REAPED, empty())
        .closes(5000, STDIN, 0);
    for slot in [STDOUT, STDERR] {
        road.stream(5000, slot, edge::SERVER_CLOSE, |r| r.writers = 1);
    }
    road.tick().idle(300);
    assert!(road.closed().is_empty(), "the writer may yet write");
    assert!(road.findings(Kind::Truncated).is_empty());
    road.stream(5000, STDOUT, edge::EPIPE, |r| r.bytes = 8893)
        .exits(5000, 5001)
        .leaves()
        .tick();
    assert_eq!(the_loss(&road).cause, Some(Cause::WriterCut));
    assert_eq!(road.end().verdict, verdict(8893, false, Cause::WriterCut));
}

#[test]
fn a_writer_that_never_writes_is_not_cut() {
    let mut road = Road::exact();
    road.runs(5000, "sleep 4 &")
        .spawn(5000, 5000, 5001, &["sleep", "4"]);
    road.leader_exits(5000, 0, empty()).closes(5000, STDIN, 0);
    for slot in [STDOUT, STDERR] {
        road.stream(5000, slot, edge::SERVER_CLOSE, |r| r.writers = 1);
    }
    road.tick().idle(3900);
    assert!(road.closed().is_empty());
    road.exits(5000, 5001).leaves().tick();
    assert_eq!(road.end().verdict, Verdict::Clean);
}

#[test]
fn a_writer_is_not_waited_for_forever() {
    let mut road = Road::exact();
    road.runs(5000, "sleep 400 &")
        .spawn(5000, 5000, 5001, &["sleep", "400"])
        .leader_exits(5000, 0, empty());
    road.closes(5000, STDIN, 0).closes(5000, STDERR, 0);
    road.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| r.writers = 1)
        .tick();
    road.idle(29_000);
    assert!(road.closed().is_empty());
    road.idle(2_000);
    assert_eq!(road.end().verdict, Verdict::Clean);
    // What it does later is not told: the last word has been said.
    let words = road.updates.len();
    road.stream(5000, STDOUT, edge::EPIPE, |r| r.bytes = 5)
        .exits(5000, 5001)
        .tick()
        .idle(1000);
    assert_eq!(road.updates.len(), words);
}

#[test]
fn a_close_by_one_of_several_owners_is_not_yet_the_end() {
    let mut road = Road::exact();
    only_stdout_is_left(&mut road);
    road.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
        closed_with(50, 100)(r);
        r.refs = 2;
    });
    road.tick().after(100);
    assert!(road.findings(Kind::Truncated).is_empty());
    road.stream(5000, STDOUT, edge::SAMPLE, |r| {
        r.counters.written = 100;
        r.counters.read = 100;
    });
    road.tick().after(900).closes(5000, STDOUT, 100);
    road.leaves().tick();
    assert!(road.findings(Kind::Truncated).is_empty());
    assert_eq!(road.end().verdict, Verdict::Clean);
}

#[test]
fn while_another_process_of_the_server_has_the_end_a_close_is_not_the_end() {
    let mut road = Road::new(backend::SYSCALL);
    only_stdout_is_left(&mut road);
    road.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
        closed_with(50, 100)(r);
        r.refs = 2;
    });
    road.run(30_000, |road| {
        road.server_holds(5000);
    });
    assert!(road.findings(Kind::Truncated).is_empty());
    assert!(road.closed().is_empty());
    road.stream(5000, STDOUT, edge::SAMPLE, |r| {
        (r.counters.written, r.counters.read) = (100, 100);
    });
    road.tick().closes(5000, STDOUT, 100).leaves().tick();
    assert!(road.findings(Kind::Truncated).is_empty());
    assert_eq!(road.end().verdict, Verdict::Clean);
}

#[test]
fn once_no_process_of_the_server_has_the_end_a_shared_close_is_the_end() {
    let mut road = Road::new(backend::SYSCALL);
    only_stdout_is_left(&mut road);
    road.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
        closed_with(50, 100)(r);
        (r.counters.read, r.refs) = (50, 2);
    });
    road.run(250, |_| ());
    assert!(road.findings(Kind::Truncated).is_empty(), "not looked yet");
    road.run(100, |_| ());
    assert_eq!(road.findings(Kind::Truncated).len(), 1);
    road.leaves().tick();
    assert_eq!(
        road.end().verdict,
        verdict(50, true, Cause::ServerClosedEarly)
    );
}

#[test]
fn each_close_by_one_of_several_owners_is_given_time() {
    let mut road = Road::exact();
    only_stdout_is_left(&mut road);
    for refs in [3, 2] {
        road.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
            closed_with(50, 100)(r);
            r.refs = refs;
        });
        road.tick().after(250);
    }
    road.tick();
    assert!(road.findings(Kind::Truncated).is_empty());
    road.closes(5000, STDOUT, 100).leaves().tick();
    assert_eq!(road.end().verdict, Verdict::Clean);
}

#[test]
fn when_a_childs_copy_goes_last_the_most_unread_counts() {
    let mut road = Road::new(backend::SYSCALL);
    only_stdout_is_left(&mut road);
    for (unread, refs) in [(50, 2), (80, 1)] {
        road.after(1).stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
            closed_with(unread, 100)(r);
            r.counters.read = 20;
            r.refs = refs;
        });
    }
    road.leaves().tick();
    assert_eq!(
        road.end().verdict,
        verdict(80, true, Cause::ServerClosedEarly)
    );
}

#[test]
fn packets_that_the_server_had_no_room_for_are_unknown() {
    let mut road = Road::exact();
    road.runs(5000, "packets").leader_exits(5000, 0, empty());
    road.closes(5000, STDIN, 0).closes(5000, STDERR, 0);
    road.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
        r.packets = 1;
        r.counters.written = 1000;
        r.counters.read = 900;
    });
    road.leaves().tick();
    let report = road.report(Slot::Stdout);
    assert_eq!(report.verdict, Verdict::Unknown);
    assert_eq!((report.written, report.read), (1000, 900));
    let note = report.note.as_deref().expect("a note");
    assert!(
        note.ends_with("read packets (O_DIRECT) into too little room"),
        "{note}"
    );
    assert_eq!(road.end().gaps, [GapReason::Unaccounted]);
}

#[test]
fn counters_that_disagree_with_the_object_are_mentioned() {
    let mut road = Road::exact();
    road.runs(5000, "splicer")
        .leader_exits(5000, 0, empty())
        .closes(5000, STDIN, 0)
        .closes(5000, STDERR, 0);
    road.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| r.counters.read = 500)
        .leaves()
        .tick();
    assert_eq!(road.end().verdict, Verdict::Clean);
    let note = road.report(Slot::Stdout).note.clone().unwrap();
    assert!(
        note.starts_with("counters disagree: 0 B written, 500 B read, 0 B unread"),
        "{note}"
    );
}

#[test]
fn output_that_the_client_closes_is_its_own_choice() {
    let mut road = Road::exact();
    road.runs(5000, "while :; do date; done");
    road.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| {
        closed_with(7, 9)(r);
        r.writers = 1;
    });
    road.tick();
    assert_eq!(the_loss(&road).cause, Some(Cause::ClientGone));
    road.closes(5000, STDERR, 0).tick().idle(60_000);
    assert!(road.closed().is_empty(), "the client still writes");
    road.closes(5000, STDIN, 0).tick();
    assert!(road.closed().is_empty(), "the command may follow at once");
    road.idle(2_000);
    assert_eq!(road.end().verdict, verdict(7, true, Cause::ClientGone));
}

#[test]
fn a_refused_write_of_nothing_is_no_loss() {
    let mut road = Road::exact();
    road.runs(5000, "true")
        .spawn(5000, 5000, 5001, &["job"])
        .leader_exits(5000, 0, empty())
        .closes(5000, STDIN, 0);
    road.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| r.writers = 1)
        .closes(5000, STDERR, 0)
        .stream(5000, STDOUT, edge::EPIPE, |r| r.bytes = 0);
    road.exits(5000, 5001).leaves().idle(1000);
    assert!(road.findings(Kind::Truncated).is_empty());
    assert_eq!(road.end().verdict, Verdict::Clean);
}

/// What the stdout of a process is.
type Output = (u64, u32);
const NOTHING: Output = (0, transport::NONE);

fn terminal() -> Output {
    (object(5000, 1), transport::PTY)
}

fn on_a_terminal() -> Road {
    let mut road = Road::exact();
    road.session_with(5000, |r| {
        r.streams.iter_mut().for_each(|ends| {
            (ends.object, ends.transport) = terminal();
        });
    });
    road
}

fn dies_of_hangup(road: &mut Road, pid: u32, stdin: u64, unread: u64, stdout: Output) {
    road.put(tracer_ebpf::Kind::Exit, |r: &mut Exit| {
        r.session = id(5000);
        r.proc = proc(pid);
        r.status = 1;
        r.stdin_object = stdin;
        r.stdin_unread = unread;
        (r.stdout.object, r.stdout.transport) = stdout;
    });
}

/// `yes | sort >file &` and `exit`: what sort had not read was not on its way to anybody.
#[test]
fn what_a_hangup_kills_is_a_loss_only_on_the_way_to_the_terminal() {
    let mut road = on_a_terminal();
    road.exec(5000, 5000, SERVER, &["bash"])
        .spawn(5000, 5000, 5001, &["sort"])
        .leader_exits(5000, 0, empty());
    dies_of_hangup(&mut road, 5001, 90, 65_536, NOTHING);
    road.closes_all(5000, 0).idle(1000);
    let report = road.report(Slot::Stdout);
    assert_eq!(report.verdict, Verdict::Clean);
    let note = report.note.clone().unwrap_or_default();
    assert!(note.contains("sent SIGHUP to sort 5001"), "{note}");
}

#[test]
fn a_pipe_that_two_of_the_killed_share_counts_once_and_a_chain_leads_to_the_terminal() {
    let mut road = on_a_terminal();
    road.exec(5000, 5000, SERVER, &["bash"])
        .spawn(5000, 5000, 5001, &["sed"])
        .spawn(5000, 5000, 5002, &["sed"])
        .spawn(5000, 5000, 5003, &["tee"])
        .leader_exits(5000, 0, empty());
    dies_of_hangup(&mut road, 5001, 90, 700, (91, transport::PIPE));
    dies_of_hangup(&mut road, 5002, 90, 700, (91, transport::PIPE));
    dies_of_hangup(&mut road, 5003, 91, 20, terminal());
    road.closes_all(5000, 0).idle(1000);
    assert_eq!(
        road.report(Slot::Stdout).verdict,
        verdict(720, false, Cause::PtyHangup)
    );
}

#[test]
fn what_a_hangup_left_unread_is_summed_whatever_it_is() {
    let mut road = on_a_terminal();
    road.exec(5000, 5000, SERVER, &["bash"])
        .spawn(5000, 5000, 5001, &["tee"])
        .spawn(5000, 5000, 5002, &["tee"])
        .leader_exits(5000, 0, empty());
    for pid in [5001, 5002] {
        dies_of_hangup(&mut road, pid, u64::from(pid), u64::MAX, terminal());
    }
    road.closes_all(5000, 0).idle(1000);
    assert_eq!(
        road.report(Slot::Stdout).verdict,
        verdict(u64::MAX, false, Cause::PtyHangup)
    );
}

/// On a slow machine the client answers the end of the command before the server closes the terminal:
/// what the hangup had killed by then is not the client's doing.
#[test]
fn a_client_that_answers_before_the_terminal_closes_excuses_no_hangup() {
    let mut road = on_a_terminal();
    road.exec(5000, 5000, SERVER, &["bash"])
        .spawn(5000, 5000, 5001, &["tee"])
        .leader_exits(5000, 0, empty())
        .after(5);
    dies_of_hangup(&mut road, 5001, 90, 700, terminal());
    let heard = road.after(50).now();
    road.after(40).server_exits(255 << 8);
    road.stream(5000, 1, edge::SERVER_CLOSE, |r: &mut Stream| {
        r.exiting = 1;
        r.progress.heard = heard;
    });
    road.idle(1000);
    assert_eq!(
        road.report(Slot::Stdout).verdict,
        verdict(700, false, Cause::PtyHangup)
    );
}
