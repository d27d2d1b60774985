//! Near misses and slow clients: late, but nothing is lost.

use std::thread::sleep;
use std::time::Duration;

use anyhow::ensure;

use crate::case::{Case, Class, Tier};
use crate::expect::{Expect, Stream};
use crate::procs::{Process, leader};
use crate::stage::Stage;
use crate::sys;
use crate::world::{BIG, Server::OpenSsh};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "N1",
        title: "cat of 4 MB, many times",
        class: Class::Clean,
        tier: Tier::Core,
        scenario: n1,
    },
    Case {
        id: "N2",
        title: "cat of 2 MB to a client stopped for 2 s",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: n2,
    },
    Case {
        id: "N3",
        title: "the server stopped while the command ends",
        class: Class::Clean,
        tier: Tier::Chosen,
        scenario: n3,
    },
];

fn n1(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let command = format!("cat {}", stage.setting.world.big().display());
    let mut expects = Vec::new();
    for _ in 0..stage.times(12) {
        let run = stage.run(OpenSsh, &command)?.ended_with(0)?;
        expects.push(run.whole(BIG)?);
    }
    Ok(expects)
}

fn n2(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    const SIZE: u64 = 2_000_000;
    let command = format!(
        "sleep 0.5; head -c {SIZE} {}",
        stage.setting.world.big().display()
    );
    let started = stage.start(OpenSsh, &command)?;
    leader(&started.marker, stage.setting.patience)?;
    sys::kill(started.client.pid(), libc::SIGSTOP)?;
    // The stop itself is what is tested; nothing announces its end.
    sleep(Duration::from_millis(2500));
    sys::kill(started.client.pid(), libc::SIGCONT)?;
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    Ok(vec![run.whole(SIZE)?.tolerate(&["stalled", "waiting"])])
}

fn n3(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let started = stage.start(OpenSsh, "sleep 0.5; echo x")?;
    let leader = leader(&started.marker, stage.setting.patience)?;
    sys::kill(leader.parent, libc::SIGSTOP)?;
    let gone = leader.gone(stage.setting.patience);
    sleep(Duration::from_millis(200));
    // Also when the leader did not end: the server must not stay stopped.
    if let Some(server) = Process::now(leader.parent) {
        server.signal(libc::SIGCONT);
    }
    gone?;
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    ensure!(
        run.arrived.stdout_head == "x\n",
        "got {:?}",
        run.arrived.stdout_head
    );
    Ok(vec![run.clean().exits(0).counts(
        Stream::Stdout,
        Some(2),
        Some(2),
    )])
}
