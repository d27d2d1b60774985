//! The TCP leg: what the server had read, and whether its client ever got it.

use std::process::Stdio;

use anyhow::ensure;

use crate::case::{Case, Class, Tier};
use crate::client::Target;
use crate::expect::{Bytes, Expect, Stream};
use crate::netns::Network;
use crate::procs::{leader, poll, quiescent, server_end};
use crate::sshd::{Sftp, Sshd};
use crate::stage::{Skipped, Stage, Started, new_marker};
use crate::sys;
use crate::world::Server::{Forget, OpenSsh};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "T7d",
        title: "a sshd killed with what it had read",
        class: Class::Truncated,
        tier: Tier::Chosen,
        scenario: t7d,
    },
    Case {
        id: "T12a",
        title: "the cable cut mid-transfer",
        class: Class::Truncated,
        tier: Tier::Chosen,
        scenario: t12a,
    },
    Case {
        id: "T12b",
        title: "the cable cut before the last line",
        class: Class::Truncated,
        tier: Tier::Full,
        scenario: t12b,
    },
    Case {
        id: "T13",
        title: "a server that reads all and sends nothing",
        class: Class::Truncated,
        tier: Tier::Full,
        scenario: t13,
    },
    Case {
        id: "C26",
        title: "compressed: less is sent than was read",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: c26,
    },
];

fn t7d(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    // Below the 2 MiB of a channel's window, above what the sockets take.
    const SIZE: u64 = 2_000_000;
    const SMALL: &str = "4096 16384 65536";
    let patience = stage.setting.patience;
    let apart = Apart::new(stage, "sshd-narrow", &[])?;
    apart.network.server.set("net/ipv4/tcp_wmem", SMALL)?;
    apart.network.client.set("net/ipv4/tcp_rmem", SMALL)?;
    let gate = stage.setting.world.fifo(&new_marker())?;
    let command = format!("cat {}; head -c {SIZE} /dev/zero", gate.display());
    let started = apart.start(stage, &command)?;
    let leader = leader(&started.marker, patience)?;
    sys::kill(started.client.pid(), libc::SIGSTOP)?;
    // Opening the gate lets `cat` go on, closing it at once ends it.
    drop(std::fs::File::create(&gate)?);
    let read = leader.gone(patience).and_then(|()| {
        let what = "the server to read to the end";
        stage
            .setting
            .tracer
            .wait_for(stage.mark, patience, what, |events| {
                let mut ends = events.iter().filter(|event| event.is("stream_eof"));
                ends.find(|event| event.command().contains(&started.marker))
                    .map(drop)
            })
    });
    let killed = sys::kill(leader.parent, libc::SIGKILL);
    sys::kill(started.client.pid(), libc::SIGCONT)?;
    read?;
    killed?;
    let run = started.finish(patience)?.ended_with(255)?;
    let lost = SIZE - run.arrived.stdout;
    ensure!(lost > 0, "the sockets took all of it");
    stage.notes.push(format!("{lost} B did not arrive"));
    Ok(vec![
        run.clean().from(apart.network.client.address).exits(0).cut(
            Stream::Stdout,
            &["server_killed"],
            Bytes::Within(1, lost),
        ),
    ])
}

/// A server and a client with a cable between them.
struct Apart {
    network: Network,
    _sshd: Sshd,
    target: Target,
}

impl Apart {
    fn new(stage: &Stage<'_>, name: &str, lines: &[&str]) -> anyhow::Result<Self> {
        let network = Network::new()
            .map_err(|error| Skipped(format!("no network namespaces here: {error:#}")))?;
        // Gives up on a silent client after some seconds instead of a quarter of an hour.
        network.server.set("net/ipv4/tcp_retries2", "3")?;
        network.server.set("net/ipv4/tcp_orphan_retries", "3")?;
        let world = stage.setting.world;
        let place = Some(&network.server);
        let sshd = Sshd::start_at(world.dir(), name, Sftp::Internal, lines, place)?;
        let target = Target {
            host: network.server.address.to_owned(),
            netns: Some(network.client.netns.clone()),
            ..world.at(sshd.port)
        };
        Ok(Self {
            network,
            _sshd: sshd,
            target,
        })
    }

    fn start(&self, stage: &Stage<'_>, command: &str) -> anyhow::Result<Started> {
        // Its own ends of the cable are gone; without this the client would wait for ever.
        let change = |ssh: &mut std::process::Command| {
            ssh.args(["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=3"])
                .stdin(Stdio::null());
        };
        stage.start_at(&self.target, OpenSsh, command, change)
    }
}

fn t12a(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    const FIRST: u64 = 100_000;
    let patience = stage.setting.patience;
    let apart = Apart::new(stage, "sshd-apart", &[])?;
    let gate = stage.setting.world.fifo(&new_marker())?;
    let command = format!("head -c {FIRST} /dev/zero; cat {}; yes", gate.display());
    let started = apart.start(stage, &command)?;
    let leader = leader(&started.marker, patience)?;
    // With nothing under way the client's window is open: into a closed one TCP goes on asking for
    // minutes, whatever `tcp_retries2` says (`tcp_rtx_probe0_timed_out`, net/ipv4/tcp_timer.c).
    poll(patience, "the first part to arrive", || {
        (started.client.stdout_so_far() == FIRST).then_some(())
    })?;
    let end = server_end(leader.parent, leader.pid, 1)?;
    apart.network.cut()?;
    drop(std::fs::File::create(&gate)?);
    let unread = quiescent(&end, patience, |bytes| bytes > 0)?;
    leader.gone(patience)?;
    let run = started.finish(patience)?;
    stage.notes.push(format!("{unread} B unread"));
    Ok(vec![
        run.clean()
            .from(apart.network.client.address)
            .cut(Stream::Stdout, &["undelivered"], stage.with_writers(unread))
            .tolerate(&["stalled"]),
    ])
}

fn t12b(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let apart = Apart::new(stage, "sshd-apart-line", &[])?;
    let gate = stage.setting.world.fifo(&new_marker())?;
    let started = apart.start(stage, &format!("cat {}; echo done", gate.display()))?;
    let leader = leader(&started.marker, patience)?;
    apart.network.cut()?;
    drop(std::fs::File::create(&gate)?);
    leader.gone(patience)?;
    let run = started.finish(patience)?;
    ensure!(run.arrived.stdout == 0, "{} B arrived", run.arrived.stdout);
    Ok(vec![
        run.clean()
            .from(apart.network.client.address)
            .exits(0)
            .cut(Stream::Stdout, &["undelivered"], Bytes::Equal(5))
            .tolerate(&["waiting"]),
    ])
}

fn t13(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    const SIZE: u64 = 300_000;
    let run = stage
        .run(Forget, &format!("head -c {SIZE} /dev/zero"))?
        .ended_with(255)?;
    ensure!(run.arrived.stdout == 0, "{} B arrived", run.arrived.stdout);
    Ok(vec![run.clean().exits(0).cut(
        Stream::Stdout,
        &["server_dropped"],
        Bytes::Equal(SIZE),
    )])
}

fn c26(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    const SIZE: u64 = 4 << 20;
    let started = stage.start_with(OpenSsh, &format!("head -c {SIZE} /dev/zero"), |ssh| {
        ssh.arg("-C");
    })?;
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    Ok(vec![run.whole(SIZE)?])
}
