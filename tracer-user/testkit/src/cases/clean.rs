//! Sessions that end as they should: nothing may be flagged.

use std::io::Read;
use std::process::{ChildStdout, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};

use crate::case::{Case, Class, Tier};
use crate::client::Client;
use crate::expect::{Bytes, Expect, Stream, Who};
use crate::procs::{Owned, end, leader, marked, quiescent, server_end};
use crate::stage::{Stage, new_marker};
use crate::world::Server::{Drain, OpenSsh};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "C1",
        title: "ssh true, echo, exit 7",
        class: Class::Clean,
        tier: Tier::Core,
        scenario: c1,
    },
    Case {
        id: "C2",
        title: "job with redirected output",
        class: Class::Clean,
        tier: Tier::Chosen,
        scenario: c2,
    },
    Case {
        id: "C3",
        title: "seq | head -1",
        class: Class::Clean,
        tier: Tier::Chosen,
        scenario: c3,
    },
    Case {
        id: "C4",
        title: "yes | head -1 inside the command",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: c4,
    },
    Case {
        id: "C5",
        title: "ssh yes | head -1: the client leaves",
        class: Class::Clean,
        tier: Tier::Core,
        scenario: c5,
    },
    Case {
        id: "C6",
        title: "output redirected early, exit 5 later",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: c6,
    },
    Case {
        id: "C7",
        title: "output closed early",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: c7,
    },
    Case {
        id: "C8",
        title: "a job that holds stdin only",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: c8,
    },
    Case {
        id: "C14",
        title: "input ends at once, or later",
        class: Class::Clean,
        tier: Tier::Chosen,
        scenario: c14,
    },
    Case {
        id: "E1",
        title: "the test server, reading to the end",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: e1,
    },
];

fn c1(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let silent = stage.run(OpenSsh, "true")?.ended_with(0)?;
    let greeting = stage.run(OpenSsh, "echo hi")?.ended_with(0)?;
    let failing = stage.run(OpenSsh, "exit 7")?.ended_with(7)?;
    ensure!(
        greeting.arrived.stdout_head == "hi\n",
        "got {:?}",
        greeting.arrived.stdout_head
    );
    Ok(vec![
        silent
            .clean()
            .exits(0)
            .counts(Stream::Stdout, Some(0), Some(0)),
        greeting
            .clean()
            .exits(0)
            .counts(Stream::Stdout, Some(3), Some(3)),
        failing.clean().exits(7),
    ])
}

fn c2(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let begin = Instant::now();
    let hold = stage.lasting();
    let run = stage
        .run(OpenSsh, &format!("sleep {hold} >/dev/null 2>&1 &"))?
        .ended_with(0)?;
    ensure!(
        begin.elapsed().as_secs() < hold,
        "the client waited for the job"
    );
    // The job must outlast the verdict, or the case shows nothing.
    stage.settle(1)?;
    ensure!(
        !marked(&run.marker).is_empty(),
        "the job ended before the session's verdict"
    );
    end(&run.marker);
    Ok(vec![run.clean().exits(0)])
}

fn c3(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let run = stage
        .run(OpenSsh, "seq 1 300000 | head -1")?
        .ended_with(0)?;
    Ok(vec![run.clean().exits(0).counts(
        Stream::Stdout,
        Some(2),
        Some(2),
    )])
}

fn c4(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let run = stage.run(OpenSsh, "yes | head -1")?.ended_with(0)?;
    Ok(vec![run.clean().exits(0).counts(
        Stream::Stdout,
        Some(2),
        Some(2),
    )])
}

fn c5(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let start = || -> anyhow::Result<(String, Owned, ChildStdout)> {
        let marker = new_marker();
        let mut ssh = stage.target(OpenSsh)?.ssh(&marker);
        ssh.arg(format!(": {marker}; yes"));
        let mut ssh = Owned(ssh.spawn().context("cannot start ssh")?);
        let output = ssh.0.stdout.take().context("ssh has no stdout")?;
        Ok((marker, ssh, output))
    };
    let never_the_server = |marker| Expect::clean(Who::Marked(marker), OpenSsh);

    // As users do it. How much is on its way when head leaves is chance, and may be nothing.
    let (at_once, mut ssh, output) = start()?;
    let mut head = std::process::Command::new("head");
    head.arg("-1")
        .stdin(Stdio::from(output))
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let line = Client::start(head)?.finish(patience)?;
    ensure!(
        line.stdout_head == "y\n",
        "head printed {:?}",
        line.stdout_head
    );
    ssh.0.wait().context("cannot wait for ssh")?;

    // The same, leaving only once everything on the way is full, the pipe last.
    let (later, mut ssh, mut output) = start()?;
    let leader = leader(&later, patience)?;
    output.read_exact(&mut [0; 2])?;
    let end = server_end(leader.parent, leader.pid, 1)?;
    quiescent(&end, patience, |bytes| bytes > 0)?;
    drop(output);
    ssh.0.wait().context("cannot wait for ssh")?;

    let gone = &["client_gone"];
    Ok(vec![
        never_the_server(at_once).may_cut(Stream::Stdout, gone, Bytes::Within(0, 65536)),
        never_the_server(later)
            .cut(Stream::Stdout, gone, Bytes::Within(1, 65536))
            .tolerate(&["stalled"]),
    ])
}

fn c6(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let run = stage
        .run(OpenSsh, "exec >/dev/null 2>&1; sleep 2; exit 5")?
        .ended_with(5)?;
    Ok(vec![run.clean().exits(5)])
}

fn c7(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let run = stage
        .run(OpenSsh, "exec >&- 2>&-; sleep 2")?
        .ended_with(0)?;
    Ok(vec![run.clean().exits(0)])
}

fn c8(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let begin = Instant::now();
    let hold = stage.lasting();
    // The client's stdin stays open, so that the server has a write end for the job to hold on to.
    let started = stage.start_with(OpenSsh, &format!("sleep {hold} >&- 2>&- <&0 &"), |ssh| {
        ssh.stdin(Stdio::piped());
    })?;
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    ensure!(
        begin.elapsed().as_secs() < hold,
        "the client waited for the job"
    );
    stage.settle(1)?;
    end(&run.marker);
    Ok(vec![run.clean().exits(0)])
}

fn c14(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let at_once = stage.run(OpenSsh, "cat; echo done")?.ended_with(0)?;
    let mut later = stage.start_with(OpenSsh, "echo first; cat; echo done", |ssh| {
        ssh.stdin(Stdio::piped());
    })?;
    crate::procs::poll(stage.setting.patience, "the first line", || {
        (later.client.stdout_so_far() >= 6).then_some(())
    })?;
    later.client.end_input();
    let later = later.finish(stage.setting.patience)?.ended_with(0)?;
    Ok(vec![
        at_once
            .clean()
            .exits(0)
            .counts(Stream::Stdout, Some(5), Some(5)),
        later
            .clean()
            .exits(0)
            .counts(Stream::Stdout, Some(11), Some(11)),
    ])
}

fn e1(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let big = stage.setting.world.big();
    let size = std::fs::metadata(&big)?.len();
    let run = stage
        .run(Drain, &format!("cat {}", big.display()))?
        .ended_with(0)?;
    let errors = stage
        .run(Drain, "echo only-line >&2; exit 3")?
        .ended_with(3)?;
    Ok(vec![
        run.whole(size)?,
        errors
            .clean()
            .exits(3)
            .counts(Stream::Stderr, Some(10), Some(10)),
    ])
}
