//! Lost bytes, and who lost them.

mod cause;
mod counting;
mod hangup;
mod shared_ends;
mod writers;

use lastbyte::model::{Cut, Finding, Kind, LossCause, Verdict};
use tracer_ebpf::Stream;

use crate::scenario::{STDERR, STDIN, Scenario, empty};

/// Stdout is closed with `unread` of `written` bytes in it.
fn closed_with(unread: u64, written: u64) -> impl Fn(&mut Stream) {
    move |r| {
        r.unread = unread;
        r.counters.written = written;
        r.counters.read = written - unread;
    }
}

fn the_loss(scenario: &Scenario) -> &Finding {
    match scenario.findings(Kind::Truncated)[..] {
        [one] => one,
        ref other => panic!("{other:#?}"),
    }
}

fn verdict(bytes: u64, exact: bool, cause: LossCause) -> Verdict {
    Verdict::Truncated(Cut {
        bytes,
        exact,
        cause,
    })
}

/// A command that exited, and of whose streams the server has only stdout.
fn only_stdout_is_left(scenario: &mut Scenario) {
    scenario
        .runs(5000, "cat big")
        .leader_exits(5000, 0, empty());
    scenario.closes(5000, STDIN, 0).closes(5000, STDERR, 0);
}
