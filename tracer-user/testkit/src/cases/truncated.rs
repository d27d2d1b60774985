//! Sessions that lose bytes, and how many.

use std::process::Command;

use anyhow::ensure;

use crate::case::{Case, Class, Tier};
use crate::expect::{Bytes, Expect, Stream, Who};
use crate::procs::{leader, poll, quiescent, server_end};
use crate::stage::{Stage, new_marker};
use crate::sys;
use crate::world::{
    BIG, Server,
    Server::{Eager, EagerSocket, OpenSsh},
};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "T0",
        title: "eager server: cat of 4 MB",
        class: Class::Truncated,
        tier: Tier::Core,
        scenario: t0,
    },
    Case {
        id: "T0e",
        title: "eager server: one line on stderr",
        class: Class::Truncated,
        tier: Tier::Chosen,
        scenario: t0e,
    },
    Case {
        id: "T0s",
        title: "eager server on unix sockets: cat of 4 MB",
        class: Class::Truncated,
        tier: Tier::Chosen,
        scenario: t0s,
    },
    Case {
        id: "T7a",
        title: "the user's sshd terminated mid-cat",
        class: Class::Truncated,
        tier: Tier::Full,
        scenario: t7a,
    },
    Case {
        id: "T7b",
        title: "the user's sshd killed mid-cat",
        class: Class::Truncated,
        tier: Tier::Full,
        scenario: t7b,
    },
    Case {
        id: "T7c",
        title: "a stopped sshd killed with 5003 B unread",
        class: Class::Truncated,
        tier: Tier::Chosen,
        scenario: t7c,
    },
    Case {
        id: "T9",
        title: "the client killed mid-transfer",
        class: Class::Truncated,
        tier: Tier::Chosen,
        scenario: t9,
    },
];

/// Names of the race.
const EARLY: &[&str] = &["server_closed_early"];

/// Runs `cat` of 4 MB until some runs have lost bytes.
fn until_lost(stage: &mut Stage<'_>, server: Server) -> anyhow::Result<Vec<Expect>> {
    until_lost_with(stage, server, "", |_| {})
}

/// The same with a command `before` it, after `change` has had its way with each client.
///
/// # Errors
/// When the scenario does not work out.
pub(crate) fn until_lost_with(
    stage: &mut Stage<'_>,
    server: Server,
    before: &str,
    change: impl Fn(&mut Command),
) -> anyhow::Result<Vec<Expect>> {
    const MOST: usize = 40;
    let command = format!("{before}cat {}", stage.setting.world.big().display());
    let losses = stage.times(5);
    let mut expects = Vec::new();
    let mut lossy = 0;
    while lossy < losses && expects.len() < MOST {
        let started = stage.start_with(server, &command, |ssh| change(ssh))?;
        let run = started.finish(stage.setting.patience)?.ended_with(0)?;
        let arrived = run.arrived.stdout;
        ensure!(arrived <= BIG, "{arrived} B arrived of {BIG}");
        let mut expect = run
            .clean()
            .exits(0)
            .counts(Stream::Stdout, Some(BIG), Some(arrived));
        if arrived < BIG {
            lossy += 1;
            expect = expect.cut(Stream::Stdout, EARLY, Bytes::Exactly(BIG - arrived));
        }
        expects.push(expect);
    }
    ensure!(lossy > 0, "the server lost nothing in {MOST} runs");
    stage
        .notes
        .push(format!("{lossy} of {} runs lost bytes", expects.len()));
    Ok(expects)
}

fn t0(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    until_lost(stage, Eager)
}

fn t0e(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    const LINE: u64 = 10;
    const MOST: usize = 40;
    let patience = stage.setting.patience;
    let mut expects = Vec::new();
    loop {
        let gate = stage.setting.world.fifo(&new_marker())?;
        let command = format!("cat {}; echo only-line >&2", gate.display());
        let started = stage.start(Eager, &command)?;
        let leader = leader(&started.marker, patience)?;
        // The server finds the line and the death at the same time: most often it looks at the
        // death first.
        sys::kill(leader.parent, libc::SIGSTOP)?;
        drop(std::fs::File::create(&gate)?);
        let gone = leader.gone(patience);
        sys::kill(leader.parent, libc::SIGCONT)?;
        gone?;
        let run = started.finish(patience)?.ended_with(0)?;
        let arrived = run.arrived.stderr;
        let expect = run
            .clean()
            .exits(0)
            .counts(Stream::Stderr, Some(LINE), Some(arrived));
        if arrived == 0 {
            expects.push(expect.cut(Stream::Stderr, EARLY, Bytes::Exactly(LINE)));
            return Ok(expects);
        }
        ensure!(arrived == LINE, "{arrived} B of the line arrived");
        expects.push(expect);
        ensure!(
            expects.len() < MOST,
            "the server lost nothing in {MOST} runs"
        );
    }
}

fn t0s(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    until_lost(stage, EagerSocket)
}

fn t7a(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    server_signalled(stage, libc::SIGTERM)
}

fn t7b(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    server_signalled(stage, libc::SIGKILL)
}

fn server_signalled(stage: &mut Stage<'_>, signal: i32) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let started = stage.start(OpenSsh, "head -c 256M /dev/zero")?;
    let leader = leader(&started.marker, patience)?;
    poll(patience, "the transfer to be under way", || {
        (started.client.stdout_so_far() > 1 << 20).then_some(())
    })?;
    // With the client stopped, everything behind it fills up and comes to rest: the pipe last.
    sys::kill(started.client.pid(), libc::SIGSTOP)?;
    let end = server_end(leader.parent, leader.pid, 1)?;
    let unread = quiescent(&end, patience, |bytes| bytes > 0)?;
    sys::kill(leader.parent, signal)?;
    sys::kill(started.client.pid(), libc::SIGCONT)?;
    let run = started.finish(patience)?.ended_with(255)?;
    stage.notes.push(format!("{unread} B unread"));
    Ok(vec![
        run.clean()
            .cut(
                Stream::Stdout,
                &["server_killed"],
                stage.with_writers(unread),
            )
            .tolerate(&["stalled"]),
    ])
}

fn t7c(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    Ok(vec![killed_with(stage, 5003)?])
}

/// Kills a stopped sshd after the command has written `unread` bytes, at most a pipe's capacity.
///
/// # Errors
/// When the scenario does not work out.
pub(crate) fn killed_with(stage: &Stage<'_>, unread: u64) -> anyhow::Result<Expect> {
    let patience = stage.setting.patience;
    let gate = stage.setting.world.fifo(&new_marker())?;
    let command = format!(
        "cat {}; head -c {unread} /dev/zero; sleep 2",
        gate.display()
    );
    let started = stage.start(OpenSsh, &command)?;
    let leader = leader(&started.marker, patience)?;
    let end = server_end(leader.parent, leader.pid, 1)?;
    sys::kill(leader.parent, libc::SIGSTOP)?;
    // Opening the gate lets `cat` go on, closing it at once ends it.
    drop(std::fs::File::create(&gate)?);
    let stood_still = quiescent(&end, patience, |bytes| bytes == unread);
    sys::kill(leader.parent, libc::SIGKILL)?;
    stood_still?;
    let run = started.finish(patience)?.ended_with(255)?;
    std::fs::remove_file(&gate)?;
    Ok(run
        .clean()
        .cut(
            Stream::Stdout,
            &["server_killed"],
            stage.with_writers(unread),
        )
        .counts(Stream::Stdout, Some(unread), Some(0))
        .tolerate(&["stalled"]))
}

fn t9(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    Ok(vec![client_killed(stage)?])
}

/// Kills the client while the command writes without end.
///
/// # Errors
/// When the scenario does not work out.
pub(crate) fn client_killed(stage: &Stage<'_>) -> anyhow::Result<Expect> {
    let patience = stage.setting.patience;
    let started = stage.start(OpenSsh, "yes")?;
    let marker = started.marker.clone();
    let leader = leader(&marker, patience)?;
    poll(patience, "the transfer to be under way", || {
        (started.client.stdout_so_far() > 4 << 20).then_some(())
    })?;
    // A stopped client lets everything on the way fill up, the pipe last.
    sys::kill(started.client.pid(), libc::SIGSTOP)?;
    quiescent(
        &server_end(leader.parent, leader.pid, 1)?,
        patience,
        |bytes| bytes > 0,
    )?;
    sys::kill(started.client.pid(), libc::SIGKILL)?;
    started.finish(patience)?;
    Ok(Expect::clean(Who::Marked(marker), OpenSsh)
        .tolerate(&["stalled"])
        .cut(Stream::Stdout, &["client_gone"], Bytes::Within(1, 65536)))
}
