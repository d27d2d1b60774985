//! Sessions that stay open, or stand still, with nobody holding an output stream.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::case::{Case, Class, Tier};
use crate::expect::{Bytes, Expect, Stream};
use crate::procs::{end, leader, marked, poll};
use crate::stage::{Skipped, Stage};
use crate::sys;
use crate::world::Server::OpenSsh;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "H1",
        title: "an X11 program outlives the command",
        class: Class::Waiting,
        tier: Tier::Full,
        scenario: h1,
    },
    Case {
        id: "H2",
        title: "a forwarded connection outlives the command",
        class: Class::Waiting,
        tier: Tier::Full,
        scenario: h2,
    },
    Case {
        id: "H3",
        title: "the client stopped mid-transfer",
        class: Class::Waiting,
        tier: Tier::Chosen,
        scenario: h3,
    },
    Case {
        id: "H5",
        title: "a terminal, a job, and exit",
        class: Class::Waiting,
        tier: Tier::Chosen,
        scenario: h5,
    },
    Case {
        id: "T3",
        title: "a terminal hangs up on tee",
        class: Class::Truncated,
        tier: Tier::Chosen,
        scenario: t3,
    },
];

/// Where sshd looks for it unless it was built otherwise; without it there is no X11 forwarding.
pub(super) const XAUTH: &str = "/usr/bin/xauth";

/// A display, and its number. All that the client asks of it is that it accepts.
pub(super) fn display() -> anyhow::Result<(TcpListener, u16)> {
    let free = (500..1000).find_map(|number| {
        let display = TcpListener::bind(("127.0.0.1", 6000 + number)).ok()?;
        Some((display, number))
    });
    free.context("no display is free")
}

fn h1(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    if !Path::new(XAUTH).exists() {
        return Err(Skipped(format!("{XAUTH} is not installed")).into());
    }
    let patience = stage.setting.patience;
    let (display, number) = display()?;
    let command = format!(
        "at=${{DISPLAY##*:}}; \
         (exec 3<>/dev/tcp/localhost/$((6000 + ${{at%.*}})); exec sleep {}) </dev/null >/dev/null 2>&1 & \
         sleep 0.5",
        stage.lasting()
    );
    let started = stage.start_with(OpenSsh, &command, |ssh| {
        ssh.env("DISPLAY", format!("127.0.0.1:{number}")).arg("-Y");
    })?;
    let finding = stage.finding("waiting", &started.marker)?;
    ensure!(
        finding.cause() == "x11",
        "the cause is {:?}, in truth x11",
        finding.cause()
    );
    let left: Vec<u32> = marked(&started.marker).iter().map(|one| one.pid).collect();
    let named: Vec<u32> = finding.holders().into_keys().collect();
    ensure!(named == left, "named are {named:?}, in truth {left:?}");
    end(&started.marker);
    let run = started.finish(patience)?.ended_with(0)?;
    drop(display);
    Ok(vec![run.clean().exits(0).require(&["waiting"])])
}

fn h2(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let target = stage.target(OpenSsh)?;
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let forward = format!("{port}:127.0.0.1:{}", target.port);
    let started = stage.start_with(OpenSsh, "sleep 1", |ssh| {
        ssh.args(["-L", &forward]);
    })?;
    let through = poll(patience, "the forward", || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    })?;
    let finding = stage.finding("waiting", &started.marker)?;
    ensure!(
        finding.cause() == "forward",
        "the cause is {:?}, in truth forward",
        finding.cause()
    );
    drop(through);
    let run = started.finish(patience)?.ended_with(0)?;
    Ok(vec![run.clean().exits(0).require(&["waiting"])])
}

fn h3(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    // The client's window is 2 MiB: this much is never all on its way.
    const SIZE: u64 = 16 << 20;
    let patience = stage.setting.patience;
    let started = stage.start(OpenSsh, &format!("head -c {SIZE} /dev/zero"))?;
    leader(&started.marker, patience)?;
    poll(patience, "the transfer to be under way", || {
        (started.client.stdout_so_far() > 1 << 20).then_some(())
    })?;
    sys::kill(started.client.pid(), libc::SIGSTOP)?;
    let stalled = stage.finding("stalled", &started.marker);
    sys::kill(started.client.pid(), libc::SIGCONT)?;
    stalled?;
    let run = started.finish(patience)?.ended_with(0)?;
    Ok(vec![run.whole(SIZE)?.require(&["stalled"])])
}

fn h5(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let command = format!("sleep {} & echo here; exit 0", stage.lasting());
    let started = stage.start_with(OpenSsh, &command, |ssh| {
        ssh.arg("-tt");
    })?;
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    ensure!(
        run.arrived.stdout_head.contains("here"),
        "got {:?}",
        run.arrived.stdout_head
    );
    end(&run.marker);
    Ok(vec![run.clean().exits(0)])
}

fn t3(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let log = format!("/tmp/{}.tee", crate::stage::new_marker());
    let command = format!("exec > >(tee {log}); seq 1 200000");
    let started = stage.start_with(OpenSsh, &command, |ssh| {
        ssh.arg("-tt");
    })?;
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    sleep(Duration::from_millis(100));
    // What tee had read by then it has also written to the file, if it was made at all.
    drop(std::fs::remove_file(&log));
    let lines = run.arrived.stdout_head.lines().count();
    ensure!(lines > 0, "nothing arrived");
    // 200000 numbers and a carriage return and newline for each.
    let whole: u64 = 1_288_895 + 200_000;
    ensure!(
        run.arrived.stdout < whole,
        "all {whole} B arrived: nothing was lost this time"
    );
    stage
        .notes
        .push(format!("{} of {whole} B arrived", run.arrived.stdout));
    Ok(vec![run.clean().exits(0).cut(
        Stream::Stdout,
        &["pty_hangup"],
        Bytes::Within(1, whole),
    )])
}
