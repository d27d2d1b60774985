//! Processes that the hangup of their terminal kills before they have read their input.

use lastbyte::model::{LossCause, Slot, Verdict};
use tracer_ebpf::{Exit, Stream, edge, transport};

use super::verdict;
use crate::scenario::{SERVER, Scenario, empty, id, object, proc};

/// What the stdout of a process is.
type Output = (u64, u32);
const NOTHING: Output = (0, transport::NONE);

fn terminal() -> Output {
    (object(5000, 1), transport::PTY)
}

fn on_a_terminal() -> Scenario {
    let mut scenario = Scenario::exact();
    scenario.session_with(5000, |r| {
        r.streams.iter_mut().for_each(|ends| {
            (ends.object, ends.transport) = terminal();
        });
    });
    scenario
}

fn dies_of_hangup(scenario: &mut Scenario, pid: u32, stdin: u64, unread: u64, stdout: Output) {
    scenario.put(tracer_ebpf::Kind::Exit, |r: &mut Exit| {
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
    let mut scenario = on_a_terminal();
    scenario
        .exec(5000, 5000, SERVER, &["bash"])
        .spawn(5000, 5000, 5001, &["sort"])
        .leader_exits(5000, 0, empty());
    dies_of_hangup(&mut scenario, 5001, 90, 65_536, NOTHING);
    scenario.closes_all(5000, 0).idle(1000);
    let report = scenario.report(Slot::Stdout);
    assert_eq!(report.verdict, Verdict::Clean);
    let note = report.note.clone().unwrap_or_default();
    assert!(note.contains("sent SIGHUP to sort 5001"), "{note}");
}

/// A detached tmux outlives its session, and its shells die of its own terminal's hangup.
#[test]
fn a_hangup_note_names_only_what_was_on_the_terminal_of_the_session() {
    const PANE: Output = (77, transport::PTY);
    let mut scenario = on_a_terminal();
    scenario
        .exec(5000, 5000, SERVER, &["tmux"])
        .spawn(5000, 5000, 5001, &["tmux"])
        .spawn(5000, 5001, 5002, &["bash"])
        .spawn(5000, 5002, 5003, &["sleep", "9"])
        .spawn(5000, 5000, 5004, &["sort"])
        .leader_exits(5000, 0, empty())
        .closes_all(5000, 0);
    let closed = scenario.now();
    scenario.after(100);
    dies_of_hangup(&mut scenario, 5004, 0, 0, NOTHING);
    dies_of_hangup(&mut scenario, 5003, 0, 0, NOTHING);
    dies_of_hangup(&mut scenario, 5002, 0, 0, PANE);
    scenario.idle(3000);
    let note = scenario
        .report(Slot::Stdout)
        .note
        .clone()
        .unwrap_or_default();
    assert!(note.contains("sent SIGHUP to sort 5004, which"), "{note}");
    assert!(
        scenario.end().time <= closed,
        "what outlives it is no part of it"
    );
}

#[test]
fn a_pipe_that_two_of_the_killed_share_counts_once_and_a_chain_leads_to_the_terminal() {
    let mut scenario = on_a_terminal();
    scenario
        .exec(5000, 5000, SERVER, &["bash"])
        .spawn(5000, 5000, 5001, &["sed"])
        .spawn(5000, 5000, 5002, &["sed"])
        .spawn(5000, 5000, 5003, &["tee"])
        .leader_exits(5000, 0, empty());
    dies_of_hangup(&mut scenario, 5001, 90, 700, (91, transport::PIPE));
    dies_of_hangup(&mut scenario, 5002, 90, 700, (91, transport::PIPE));
    dies_of_hangup(&mut scenario, 5003, 91, 20, terminal());
    scenario.closes_all(5000, 0).idle(1000);
    assert_eq!(
        scenario.report(Slot::Stdout).verdict,
        verdict(720, false, LossCause::PtyHangup)
    );
}

#[test]
fn what_a_hangup_left_unread_is_summed_whatever_it_is() {
    let mut scenario = on_a_terminal();
    scenario
        .exec(5000, 5000, SERVER, &["bash"])
        .spawn(5000, 5000, 5001, &["tee"])
        .spawn(5000, 5000, 5002, &["tee"])
        .leader_exits(5000, 0, empty());
    for pid in [5001, 5002] {
        dies_of_hangup(&mut scenario, pid, u64::from(pid), u64::MAX, terminal());
    }
    scenario.closes_all(5000, 0).idle(1000);
    assert_eq!(
        scenario.report(Slot::Stdout).verdict,
        verdict(u64::MAX, false, LossCause::PtyHangup)
    );
}

/// On a slow machine the client answers the end of the command before the server closes the terminal:
/// what the hangup had killed by then is not the client's doing.
#[test]
fn a_client_that_answers_before_the_terminal_closes_excuses_no_hangup() {
    let mut scenario = on_a_terminal();
    scenario
        .exec(5000, 5000, SERVER, &["bash"])
        .spawn(5000, 5000, 5001, &["tee"])
        .leader_exits(5000, 0, empty())
        .after(5);
    dies_of_hangup(&mut scenario, 5001, 90, 700, terminal());
    let heard = scenario.after(50).now();
    scenario.after(40).server_exits(255 << 8);
    scenario.stream(5000, 1, edge::SERVER_CLOSE, |r: &mut Stream| {
        r.exiting = 1;
        r.progress.heard = heard;
    });
    scenario.idle(1000);
    assert_eq!(
        scenario.report(Slot::Stdout).verdict,
        verdict(700, false, LossCause::PtyHangup)
    );
}
