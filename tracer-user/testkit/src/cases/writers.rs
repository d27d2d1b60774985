//! Unusual ways to write: the byte ledger must match all the same.

use crate::case::{Case, Class, Tier};
use crate::expect::Expect;
use crate::procs::{leader, quiescent, server_end};
use crate::stage::{Stage, new_marker};
use crate::sys::{self, needs_io_uring};
use crate::world::{BIG, Server::OpenSsh};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "C16a",
        title: "writev to stdout",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: writev,
    },
    Case {
        id: "C16b",
        title: "splice to stdout",
        class: Class::Clean,
        tier: Tier::Chosen,
        scenario: splice,
    },
    Case {
        id: "C16c",
        title: "sendfile to stdout",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: sendfile,
    },
    Case {
        id: "C16d",
        title: "tee to stdout",
        class: Class::Clean,
        tier: Tier::Chosen,
        scenario: tee,
    },
    Case {
        id: "C16e",
        title: "vmsplice to stdout",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: vmsplice,
    },
    Case {
        id: "C16f",
        title: "packets (O_DIRECT) to stdout",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: packets,
    },
    Case {
        id: "C17",
        title: "io_uring writes to stdout",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: uring,
    },
    Case {
        id: "C19",
        title: "a pipe of 1 MiB and a stopped server",
        class: Class::Clean,
        tier: Tier::Chosen,
        scenario: big_pipe,
    },
];

fn writev(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    written(stage, "writev")
}

fn splice(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    written(stage, "splice")
}

fn sendfile(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    written(stage, "sendfile")
}

fn tee(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    written(stage, "tee")
}

fn vmsplice(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    written(stage, "vmsplice")
}

fn packets(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    // Below the 2 MiB of a channel's window: near its end sshd reads into little room, which discards
    // what is left of a packet.
    const SIZE: u64 = 1_000_000;
    let world = stage.setting.world;
    let command = format!(
        "head -c {SIZE} {big} >/tmp/{marker}; {fixture} packets /tmp/{marker}; rm /tmp/{marker}",
        big = world.big().display(),
        marker = new_marker(),
        fixture = world.fixture()?.display(),
    );
    let run = stage.run(OpenSsh, &command)?.ended_with(0)?;
    Ok(vec![run.whole(SIZE)?])
}

fn uring(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    needs_io_uring()?;
    written(stage, "uring")
}

fn written(stage: &Stage<'_>, way: &str) -> anyhow::Result<Vec<Expect>> {
    let world = stage.setting.world;
    let command = format!(
        "{} {way} {}",
        world.fixture()?.display(),
        world.big().display()
    );
    let run = stage.run(OpenSsh, &command)?.ended_with(0)?;
    Ok(vec![run.whole(BIG)?])
}

fn big_pipe(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    const SIZE: u64 = 1_000_000;
    let patience = stage.setting.patience;
    let world = stage.setting.world;
    let file = world.dir().join("million");
    std::fs::write(&file, vec![b'x'; 1_000_000])?;
    let gate = world.fifo(&new_marker())?;
    let command = format!(
        "cat {}; {} big-pipe {}",
        gate.display(),
        world.fixture()?.display(),
        file.display()
    );
    let started = stage.start(OpenSsh, &command)?;
    let leader = leader(&started.marker, patience)?;
    let end = server_end(leader.parent, leader.pid, 1)?;
    sys::kill(leader.parent, libc::SIGSTOP)?;
    drop(std::fs::File::create(&gate)?);
    // All of it fits: the leader ends with every byte unread, far more than a pipe usually holds.
    let full = quiescent(&end, patience, |bytes| bytes == SIZE);
    let gone = leader.gone(patience);
    sys::kill(leader.parent, libc::SIGCONT)?;
    full?;
    gone?;
    let run = started.finish(patience)?.ended_with(0)?;
    Ok(vec![run.whole(SIZE)?.tolerate(&["stalled"])])
}
