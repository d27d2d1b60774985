//! What servers do besides the plain case: other servers, other settings, connections alone.

use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Instant;
use std::{fs, net};

use anyhow::{Context, ensure};

use crate::case::{Case, Class, Tier};
use crate::client::Client;
use crate::expect::{Bytes, Expect, Stream, Who};
use crate::procs::{end, leader, poll, quiescent, server_end};
use crate::sshd::{Sftp, Sshd};
use crate::stage::{Stage, new_marker};
use crate::sys;
use crate::world::Server::{Dropbear, Eager, OpenSsh};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "C9",
        title: "tmux, and a daemon with redirected output",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: c9,
    },
    Case {
        id: "C12",
        title: "a subsystem's child holds stderr only",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: c12,
    },
    Case {
        id: "C13",
        title: "a connection with a forward and no session",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: c13,
    },
    Case {
        id: "C25",
        title: "the listener reloaded mid-session",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: c25,
    },
    Case {
        id: "O13",
        title: "dropbear: sleep &",
        class: Class::Clean,
        tier: Tier::Chosen,
        scenario: o13,
    },
    Case {
        id: "T0c",
        title: "eager server: scp -O, both ways",
        class: Class::Truncated,
        tier: Tier::Full,
        scenario: t0c,
    },
    Case {
        id: "T6",
        title: "dropbear: a writer outlives the command",
        class: Class::Truncated,
        tier: Tier::Full,
        scenario: t6,
    },
    Case {
        id: "T10",
        title: "the client stopped until the server gives up",
        class: Class::Truncated,
        tier: Tier::Full,
        scenario: t10,
    },
];

fn c9(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let hold = stage.lasting();
    let daemon = stage.run(
        OpenSsh,
        &format!("setsid sh -c 'sleep {hold} & exit 0' </dev/null >/dev/null 2>&1; echo started"),
    )?;
    let daemon = daemon.ended_with(0)?;
    let mut expects = vec![
        daemon
            .clean()
            .exits(0)
            .counts(Stream::Stdout, Some(8), Some(8)),
    ];
    let mut markers = vec![daemon.marker];
    if std::process::Command::new("tmux")
        .arg("-V")
        .output()
        .is_ok()
    {
        let socket = new_marker();
        let run = stage.run(OpenSsh, &format!("tmux -L {socket} new -d 'sleep {hold}'"))?;
        // Without a UTF-8 locale some tmux refuse; that is no session's fault.
        if run.arrived.status.success() {
            expects.push(run.clean().exits(0));
        } else {
            expects.push(run.clean());
        }
        markers.push(run.marker);
    }
    stage.settle(expects.len())?;
    for marker in &markers {
        end(marker);
    }
    Ok(expects)
}

fn c12(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let world = stage.setting.world;
    let script = world.dir().join("subsystem");
    let hold = stage.lasting();
    fs::write(
        &script,
        format!("#!/bin/sh\nsleep {hold} >/dev/null &\necho served\n"),
    )?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let line = format!("Subsystem lbtest {}", script.display());
    let sshd = Sshd::start(world.dir(), "sshd-subsystem", Sftp::Internal, &[&line])?;
    let marker = new_marker();
    let mut ssh = world.at(sshd.port).ssh(&marker);
    ssh.args(["-s", "lbtest"]);
    let begin = Instant::now();
    let arrived = Client::start(ssh)?.finish(stage.setting.patience)?;
    ensure!(
        arrived.stdout_head == "served\n",
        "got {:?}: {}",
        arrived.stdout_head,
        arrived.stderr_head
    );
    ensure!(
        begin.elapsed().as_secs() < hold,
        "the client waited for the job"
    );
    stage.settle(1)?;
    end(&marker);
    Ok(vec![Expect::clean(Who::Unmarked, OpenSsh).exits(0).counts(
        Stream::Stdout,
        Some(7),
        Some(7),
    )])
}

fn c13(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let target = stage.target(OpenSsh)?;
    let port = net::TcpListener::bind(("127.0.0.1", 0))?
        .local_addr()?
        .port();
    let mut ssh = target.ssh(&new_marker());
    ssh.args(["-N", "-o", "ExitOnForwardFailure=yes", "-L"])
        .arg(format!("{port}:127.0.0.1:{}", target.port));
    let client = Client::start(ssh)?;
    let mut through = poll(patience, "the forward", || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    })?;
    through.set_read_timeout(Some(patience))?;
    let mut banner = [0; 4];
    through.read_exact(&mut banner)?;
    ensure!(&banner == b"SSH-", "the forward answers {banner:?}");
    drop(through);
    // A session through the forward shows where the connection without one ends in the output.
    let run = stage.run(OpenSsh, "echo after")?.ended_with(0)?;
    drop(client);
    Ok(vec![run.clean().exits(0)])
}

fn c25(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let world = stage.setting.world;
    let sshd = Sshd::start(world.dir(), "sshd-reloaded", Sftp::Internal, &[])?;
    let target = world.at(sshd.port);
    let during = stage.start_at(&target, OpenSsh, "sleep 1; echo after", |_| {})?;
    leader(&during.marker, patience)?;
    sys::kill(sshd.pid(), libc::SIGHUP)?;
    let log = world.dir().join("sshd-reloaded.log");
    poll(patience, "the reloaded listener", || {
        let times = fs::read_to_string(&log)
            .ok()?
            .matches("Server listening on")
            .count();
        (times == 2).then_some(())
    })?;
    let afterwards = stage.start_at(&target, OpenSsh, "echo new", |_| {})?;
    let afterwards = afterwards.finish(patience)?.ended_with(0)?;
    let during = during.finish(patience)?.ended_with(0)?;
    Ok(vec![
        during
            .clean()
            .exits(0)
            .counts(Stream::Stdout, Some(6), Some(6)),
        afterwards
            .clean()
            .exits(0)
            .counts(Stream::Stdout, Some(4), Some(4)),
    ])
}

fn o13(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let begin = Instant::now();
    let hold = stage.lasting();
    let run = stage
        .run(Dropbear, &format!("sleep {hold} & echo $!"))?
        .ended_with(0)?;
    ensure!(
        begin.elapsed().as_secs() < hold,
        "the client waited for the job"
    );
    // dropbear hands on no environment: the job has no mark.
    sys::kill(run.arrived.stdout_head.trim().parse()?, libc::SIGKILL)?;
    let bytes = Some(run.arrived.stdout);
    // The job writes nothing, so nothing of it is lost.
    Ok(vec![run.clean().exits(0).counts(
        Stream::Stdout,
        bytes,
        bytes,
    )])
}

fn t0c(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let dir = stage.setting.world.dir().display().to_string();
    let target = stage.target(Eager)?;
    let mut expects = Vec::new();
    let mut failures = 0;
    for _ in 0..stage.times(10) {
        let near = format!("{dir}/{}", new_marker());
        let far = format!("/tmp/{}-far", new_marker());
        for (from, to) in [
            (target.remote(&format!("{dir}/big")), near.clone()),
            (near.clone(), target.remote(&far)),
        ] {
            let mut scp = target.copy_tool("scp", &new_marker());
            scp.args(["-O", &from, &to]);
            let arrived = Client::start(scp)?.finish(stage.setting.patience)?;
            failures += usize::from(!arrived.status.success());
            // The protocol's own bytes are not to be counted from outside.
            expects.push(Expect::clean(Who::Unmarked, Eager).may_cut(
                Stream::Stdout,
                &["server_closed_early"],
                Bytes::Within(1, 65536),
            ));
        }
        // It is not there if the copy failed.
        drop(fs::remove_file(far));
    }
    stage
        .notes
        .push(format!("{failures} of {} copies failed", expects.len()));
    Ok(expects)
}

fn t6(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let run = stage
        .run(Dropbear, "seq 1 2000 > >(sleep .3; cat)")?
        .ended_with(0)?;
    ensure!(run.arrived.stdout == 0, "{} B arrived", run.arrived.stdout);
    // seq writes 8893 bytes; how many of them cat tried to pass on the kernel need not know.
    Ok(vec![run.clean().exits(0).cut(
        Stream::Stdout,
        &["writer_cut"],
        Bytes::Within(0, 8893),
    )])
}

fn t10(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let world = stage.setting.world;
    let lines = ["ClientAliveInterval 1", "ClientAliveCountMax 2"];
    let sshd = Sshd::start(world.dir(), "sshd-impatient", Sftp::Internal, &lines)?;
    let started = stage.start_at(&world.at(sshd.port), OpenSsh, "yes", |ssh| {
        ssh.stdin(Stdio::null());
    })?;
    let leader = leader(&started.marker, patience)?;
    poll(patience, "the transfer to be under way", || {
        (started.client.stdout_so_far() > 1 << 20).then_some(())
    })?;
    sys::kill(started.client.pid(), libc::SIGSTOP)?;
    let unread = server_end(leader.parent, leader.pid, 1)
        .and_then(|end| quiescent(&end, patience, |bytes| bytes > 0));
    let given_up = leader.gone(patience);
    sys::kill(started.client.pid(), libc::SIGCONT)?;
    let unread = unread?;
    given_up.context("the server does not give up")?;
    let run = started.finish(patience)?;
    Ok(vec![
        run.clean()
            .cut(Stream::Stdout, &["timeout"], stage.with_writers(unread))
            .tolerate(&["stalled"]),
    ])
}
