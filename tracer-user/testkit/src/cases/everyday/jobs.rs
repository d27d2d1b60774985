//! Commands that end, or are ended, in ordinary ways.

use std::io::Read as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::accuse::{lines_about, watch};
use crate::client::Client;
use crate::expect::{Bytes, Expect, Stream, Who};
use crate::procs::{self, Owned, Process, leader, poll, quiescent, server_end};
use crate::stage::{Stage, new_marker};
use crate::sys;
use crate::world::{BIG, Server::OpenSsh};

pub(super) fn killed(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let mut expects = Vec::new();
    for (command, signal) in [
        ("yes", libc::SIGTERM),
        ("yes", libc::SIGKILL),
        ("sleep 300", libc::SIGTERM),
        ("sleep 300", libc::SIGKILL),
    ] {
        let started = stage.start(OpenSsh, &format!("exec {command}"))?;
        let leader = leader(&started.marker, patience)?;
        leader.signal(signal);
        let run = started.finish(patience)?;
        // Signalled before its exec or after: the shell that it was has no handler either.
        expects.push(run.clean().signalled(signal.into()));
    }
    Ok(expects)
}

pub(super) fn all_killed(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let mut expects = Vec::new();
    for (signal, command, server_first) in [
        (libc::SIGTERM, "exec sleep 300", false),
        (libc::SIGTERM, "exec sleep 300", true),
        (libc::SIGTERM, "exec cat", false),
        (libc::SIGTERM, "sleep 300; true", false),
        (libc::SIGKILL, "exec sleep 300", false),
        (libc::SIGKILL, "exec sleep 300", true),
        (libc::SIGKILL, "exec cat", false),
        (libc::SIGKILL, "sleep 300; true", false),
        (libc::SIGKILL, "sleep 300; true", true),
    ] {
        let started = stage.start_with(OpenSsh, command, |ssh| {
            ssh.stdin(Stdio::piped());
        })?;
        let leader = leader(&started.marker, patience)?;
        let processes = if command.starts_with("exec") { 1 } else { 2 };
        poll(patience, "the command to run", || {
            (procs::marked(&started.marker).len() >= processes).then_some(())
        })?;
        // pkill -u goes by pid: the user's sshd comes first, and may be gone before the rest.
        if let Some(server) = Process::now(leader.parent) {
            server.signal(signal);
            if server_first {
                server.gone(patience)?;
            }
        }
        for process in procs::marked(&started.marker) {
            process.signal(signal);
        }
        let marker = started.marker.clone();
        started.client.finish(patience)?;
        // The server was killed, but nobody wrote anything.
        expects.push(Expect::quiet(Who::Marked(marker), OpenSsh));
    }
    Ok(expects)
}

pub(super) fn background(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let run = stage.start_with(OpenSsh, "sleep 0.3; echo x", |ssh| {
        ssh.arg("-f");
    })?;
    let run = run.finish(stage.setting.patience)?.ended_with(0)?;
    ensure!(run.arrived.stdout == 2, "{} B arrived", run.arrived.stdout);
    Ok(vec![run.clean().exits(0)])
}

pub(super) fn detached(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let job = format!("sleep {} </dev/null >/dev/null 2>&1", stage.lasting());
    let mut expects = Vec::new();
    let mut markers = Vec::new();
    for command in [
        format!("nohup {job} &"),
        format!("setsid {job} &"),
        format!("({job} &)"),
        format!("nohup setsid {job} & disown"),
    ] {
        let run = stage.run(OpenSsh, &command)?.ended_with(0)?;
        expects.push(run.clean().exits(0));
        markers.push(run.marker);
    }
    let settled = stage.settle(expects.len());
    markers.iter().for_each(|marker| procs::end(marker));
    settled?;
    Ok(expects)
}

pub(super) fn pipes(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let mut expects = Vec::new();
    for command in [
        "yes | head -1; seq 1 300000 | head -1 | cat",
        "(trap '' PIPE; yes 2>/dev/null | head -1)",
        "exec >&-; sleep 0.2; echo x >&2",
        "exec 2>&-; echo x; sleep 0.2",
        "exec <&-; echo x",
    ] {
        let run = stage.run(OpenSsh, command)?;
        expects.push(run.clean());
    }
    // The client closes its stdin, and the command goes on.
    for command in ["cat >/dev/null; seq 1 20000", "seq 1 20000; cat"] {
        let mut started = stage.start_with(OpenSsh, command, |ssh| {
            ssh.stdin(Stdio::piped());
        })?;
        started.client.say("x\n")?;
        started.client.end_input();
        expects.push(started.finish(patience)?.ended_with(0)?.clean().exits(0));
    }
    // `ssh h seq | head -1`: the client's own output is closed early.
    let marker = new_marker();
    let mut ssh = stage.target(OpenSsh)?.ssh(&marker);
    ssh.arg(format!(": {marker}; seq 1 300000"));
    let mut ssh = Owned(ssh.spawn().context("cannot start ssh")?);
    let mut output = ssh.0.stdout.take().context("ssh has no stdout")?;
    output.read_exact(&mut [0; 2])?;
    drop(output);
    ssh.0.wait().context("cannot wait for ssh")?;
    expects.push(Expect::quiet(Who::Marked(marker), OpenSsh));
    Ok(expects)
}

pub(super) fn terminal(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let mut expects = Vec::new();
    for flag in ["-tt", "-T"] {
        for command in ["echo x", "seq 1 50000", "sleep 0.2; exit 3"] {
            let started = stage.start_with(OpenSsh, command, |ssh| {
                ssh.arg(flag);
            })?;
            expects.push(started.finish(stage.setting.patience)?.clean());
        }
    }
    Ok(expects)
}

/// For how long nothing is read.
const SLOW: Duration = Duration::from_secs(3);

pub(super) fn slow(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let mut expects = Vec::new();
    let watch = watch(stage)?;
    for goes_on in [true, false] {
        let marker = new_marker();
        let mut ssh = stage.target(OpenSsh)?.ssh(&marker);
        // More than is ever on its way.
        let command = format!(
            "for i in 1 2 3 4; do cat {0}; done",
            stage.setting.world.big().display()
        );
        ssh.arg(format!(": {marker}; {command}"));
        let mut ssh = Owned(ssh.spawn().context("cannot start ssh")?);
        let output = ssh.0.stdout.take().context("ssh has no stdout")?;
        let leader = leader(&marker, patience)?;
        let end = server_end(leader.parent, leader.pid, 1)?;
        quiescent(&end, patience, |bytes| bytes > 0)?;
        // That long a pause is what is tested; nothing announces its end.
        std::thread::sleep(SLOW);
        let who = Who::Marked(marker.clone());
        if goes_on {
            let mut rest = std::process::Command::new("cat");
            rest.stdin(Stdio::from(output))
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let arrived = Client::start(rest)?.finish(patience)?;
            ensure!(arrived.stdout == 4 * BIG, "{} B arrived", arrived.stdout);
            expects.push(Expect::clean(who, OpenSsh).exits(0).tolerate(&["stalled"]));
        } else {
            sys::kill(ssh.0.id(), libc::SIGINT)?;
            poll(patience, "the client's end", || ssh.0.try_wait().ok()?)?;
            // What the command had written is in the pipe, and beyond it.
            let gone = &["client_gone"];
            let expect = Expect::clean(who, OpenSsh).tolerate(&["stalled"]);
            expects.push(
                expect
                    .cut(Stream::Stdout, gone, Bytes::Within(1, u64::MAX))
                    .may_cut(Stream::Stderr, gone, Bytes::Equal(0)),
            );
        }
        let lines = lines_about(stage, &watch, &marker)?;
        ensure!(
            lines.len() == 1,
            "more than its end is printed: {}",
            lines[0].raw
        );
    }
    Ok(expects)
}
