//! Beside the everyday endings: for each kind of true accusation one that has to be reported.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::case::{Case, Class, Tier};
use crate::cases::truncated::until_lost_with;
use crate::event::Event;
use crate::expect::{Bytes, Expect, Stream, Who};
use crate::procs::{self, Process, leader, poll};
use crate::sshd::{Sftp, Sshd};
use crate::stage::{Stage, new_marker};
use crate::sys;
use crate::tracer::Tracer;
use crate::world::Server::{Eager, OpenSsh};

macro_rules! entries {
    ($($id:literal $class:ident $title:literal: $scenario:expr;)*) => {
        &[$(Case {
            id: $id,
            title: $title,
            class: Class::$class,
            tier: Tier::Full,
            scenario: $scenario,
        }),*]
    };
}

/// What has to be reported, and what looks like it.
pub(crate) const CASES: &[Case] = entries! {
    "T20" Truncated "the server terminated while the client sends": |stage| chatty(stage, libc::SIGTERM);
    "T21" Truncated "the server killed while the client sends": |stage| chatty(stage, libc::SIGKILL);
    "T22" Truncated "the server's ChannelTimeout, then a write": channel_timeout;
    "T23" Truncated "eager server: closed early while the client sends": early_while_sending;
    "T24" Truncated "the server's ChannelTimeout, the command silent": channel_timeout_silent;
    "T25" Truncated "the server killed, the command silent": killed_silent;
    "T26" Truncated "two processes share the unread pipe of a terminal": shared_pipe;
    "C30" Clean "a terminal's end kills a job that writes to a file": job_with_file;
    "O20" Orphaned "the client gives up on a hang": gives_up;
    "O21" Orphaned "an orphan that prints each second": printing_orphan;
};

/// The verdict of the last word on the session with this marker.
fn verdict(stage: &Stage<'_>, marker: &str) -> anyhow::Result<String> {
    let closed = stage.until("the last word", |event| {
        event.is("session_closed") && event.command().contains(marker)
    })?;
    Ok(closed.verdict().to_owned())
}

/// The same while the command runs on: what it may yet write is waited for half a minute.
fn verdict_meanwhile(stage: &Stage<'_>, marker: &str) -> anyhow::Result<String> {
    let patience = stage.setting.patience + Duration::from_secs(40);
    let tracer = stage.setting.tracer;
    tracer.wait_for(stage.mark, patience, "the last word", |events| {
        let about = |it: &&Event| it.is("session_closed") && it.command().contains(marker);
        events.iter().find(about).map(|it| it.verdict().to_owned())
    })
}

fn chatty(stage: &mut Stage<'_>, signal: i32) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let zeros = File::open("/dev/zero")?;
    let started = stage.start_with(OpenSsh, "cat <&0 >/dev/null & exec yes", |ssh| {
        ssh.stdin(zeros);
    })?;
    let leader = leader(&started.marker, patience)?;
    poll(patience, "the transfer to be under way", || {
        (started.client.stdout_so_far() > 1 << 18).then_some(())
    })?;
    let server = Process::now(leader.parent).context("the server has ended")?;
    server.signal(signal);
    let marker = started.marker.clone();
    started.client.finish(patience)?;
    procs::end(&marker);
    let cause = &["server_killed"];
    Ok(vec![Expect::clean(Who::Marked(marker), OpenSsh).cut(
        Stream::Stdout,
        cause,
        Bytes::Within(0, u64::MAX),
    )])
}

/// A server that closes a session's channel when nothing has moved for three seconds: the
/// server counts whole seconds, so of one it may be next to none.
fn impatient(stage: &Stage<'_>) -> anyhow::Result<Sshd> {
    let line = ["ChannelTimeout session:command=3s"];
    let world = stage.setting.world;
    Sshd::start(world.dir(), "sshd-channels", Sftp::Internal, &line)
}

fn channel_timeout(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let sshd = impatient(stage)?;
    let target = stage.setting.world.at(sshd.port);
    let started = stage.start_at(&target, OpenSsh, "trap '' PIPE; sleep 6; echo late", |_| {})?;
    let leader = leader(&started.marker, stage.setting.patience)?;
    let marker = started.marker.clone();
    started.client.finish(stage.setting.patience)?;
    leader.gone(stage.setting.patience)?;
    stage.settle(1)?;
    let verdict = verdict(stage, &marker)?;
    ensure!(
        verdict != "clean",
        "a command cut off by its server is called clean"
    );
    let expect = Expect::clean(Who::Marked(marker), OpenSsh);
    // The shell's complaint about the failed write is lost as well.
    Ok(vec![
        expect
            .cut(Stream::Stdout, &["timeout"], Bytes::Within(0, 5))
            .may_cut(Stream::Stderr, &["timeout"], Bytes::Within(0, 100)),
    ])
}

fn channel_timeout_silent(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let sshd = impatient(stage)?;
    let target = stage.setting.world.at(sshd.port);
    let command = format!("sleep {}", stage.lasting());
    let started = stage.start_at(&target, OpenSsh, &command, |_| {})?;
    let marker = started.marker.clone();
    started.client.finish(stage.setting.patience)?;
    let verdict = verdict_meanwhile(stage, &marker);
    procs::end(&marker);
    let verdict = verdict?;
    ensure!(
        verdict != "clean",
        "a command cut off by its server is called clean"
    );
    Ok(vec![
        Expect::clean(Who::Marked(marker), OpenSsh)
            .may_cut(Stream::Stdout, &["timeout"], Bytes::Equal(0))
            .may_cut(Stream::Stderr, &["timeout"], Bytes::Equal(0)),
    ])
}

fn killed_silent(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let started = stage.start(OpenSsh, &format!("sleep {}", stage.lasting()))?;
    let leader = leader(&started.marker, patience)?;
    let server = Process::now(leader.parent).context("the server has ended")?;
    server.signal(libc::SIGKILL);
    let marker = started.marker.clone();
    started.client.finish(patience)?;
    let verdict = verdict_meanwhile(stage, &marker);
    procs::end(&marker);
    let verdict = verdict?;
    ensure!(
        verdict != "clean",
        "a command whose server was killed is called clean"
    );
    let cause = &["server_killed"];
    let expect = Expect::clean(Who::Marked(marker), OpenSsh);
    Ok(vec![
        expect
            .may_cut(Stream::Stdout, cause, Bytes::Equal(0))
            .may_cut(Stream::Stderr, cause, Bytes::Equal(0)),
    ])
}

fn early_while_sending(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let reader = "cat <&0 >/dev/null 2>&1 & ";
    until_lost_with(stage, Eager, reader, |ssh: &mut Command| {
        if let Ok(zeros) = File::open("/dev/zero") {
            ssh.stdin(zeros);
        }
    })
}

fn shared_pipe(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    // Two processes wait in front of a pipe that leads to the terminal, and neither reads it.
    let command = "exec > >((sleep 300; cat) & sleep 300; cat); sleep 0.3; head -c 5000 /dev/zero";
    let started = stage.start_with(OpenSsh, command, |ssh| {
        ssh.arg("-tt");
    })?;
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    stage.settle(1)?;
    procs::end(&run.marker);
    Ok(vec![run.clean().may_cut(
        Stream::Stdout,
        &["pty_hangup"],
        Bytes::Within(1, 5000),
    )])
}

fn job_with_file(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let sorted = PathBuf::from(format!("/tmp/{}.sorted", new_marker()));
    // Both of the job's processes have its pipe open, and its result goes to a file.
    let command = format!(
        "(yes; true) 2>/dev/null | (sleep 300; sort) >{} 2>&1 & sleep 0.5; exit 0",
        sorted.display()
    );
    let started = stage.start_with(OpenSsh, &command, |ssh| {
        ssh.arg("-tt");
    })?;
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    let settled = stage.settle(1);
    procs::end(&run.marker);
    // It is not there if the job was killed before it was made.
    drop(std::fs::remove_file(sorted));
    settled?;
    Ok(vec![run.clean().exits(0)])
}

fn gives_up(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let started = stage.start(OpenSsh, &format!("sleep {} & exit 0", stage.lasting()))?;
    let marker = started.marker.clone();
    stage.finding("orphaned", &marker)?;
    let truth = procs::holders(&marker);
    // As `timeout 3 ssh` does.
    sys::kill(started.client.pid(), libc::SIGTERM)?;
    started.client.finish(patience)?;
    let settled = stage.settle(1);
    let still_runs = !procs::marked(&marker).is_empty();
    procs::end(&marker);
    settled?;
    ensure!(still_runs, "the job has ended before the session's verdict");
    let events = stage.events();
    let resolved = events
        .iter()
        .rfind(|event| event.finds("orphaned") && event.state() == "resolved")
        .context("the hang is not resolved")?;
    let message = resolved.message();
    ensure!(
        message.contains("client"),
        "the client gave up, yet: {message}"
    );
    let verdict = verdict(stage, &marker)?;
    ensure!(
        verdict != "clean",
        "giving up on a job that still runs is called clean"
    );
    let gone = &["client_gone"];
    let any = Bytes::Within(0, 0);
    let expect = Expect::clean(Who::Marked(marker), OpenSsh).exits(0);
    Ok(vec![
        expect
            .held_by(truth)
            .may_cut(Stream::Stdout, gone, any)
            .may_cut(Stream::Stderr, gone, any),
    ])
}

/// What a person sees, who does not ask for everything.
pub(super) fn watch(stage: &Stage<'_>) -> anyhow::Result<Tracer> {
    let setting = stage.setting;
    let mut watch = Command::new(setting.lastbyte);
    watch.args(["watch", "--no-daemon", "--json", "--grace", "1s"]);
    if let Some(backend) = setting.backend {
        watch.args(["--backend", backend]);
    }
    let watch = Tracer::spawn(watch)?;
    watch.wait_for(0, 4 * setting.patience, "`started`", |events| {
        events.iter().any(|event| event.is("started")).then_some(())
    })?;
    Ok(watch)
}

/// The lines about the session with this marker, once the last one is there.
pub(super) fn lines_about(
    stage: &Stage<'_>,
    watch: &Tracer,
    marker: &str,
) -> anyhow::Result<Vec<Event>> {
    let about = |event: &&Event| event.command().contains(marker);
    watch.wait_for(0, stage.setting.patience, "the last word", |events| {
        let own: Vec<Event> = events.iter().filter(about).cloned().collect();
        let closed = own.iter().any(|event| event.is("session_closed"));
        closed.then_some(own)
    })
}

fn printing_orphan(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let watch = watch(stage)?;
    let command = "for i in 1 2 3 4 5 6; do echo $i; sleep 1; done & exit 0";
    let started = stage.start(OpenSsh, command)?;
    let marker = started.marker.clone();
    stage.finding("orphaned", &marker)?;
    let run = started.finish(stage.setting.patience + Duration::from_secs(6))?;
    ensure!(run.arrived.stdout == 12, "{} B arrived", run.arrived.stdout);
    let lines = lines_about(stage, &watch, &marker)?;
    let states: Vec<&str> = lines
        .iter()
        .filter(|event| event.finds("orphaned"))
        .map(Event::state)
        .collect();
    ensure!(
        states == ["open", "resolved"],
        "an orphan that prints makes these lines: {states:?}"
    );
    // Which of the shell and its `sleep` are there when it is looked at is chance.
    Ok(vec![run.clean().exits(0).tolerate(&["orphaned"])])
}
