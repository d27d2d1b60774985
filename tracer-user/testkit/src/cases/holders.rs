//! Holders that come, go and hide.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::case::{Case, Class, Tier};
use crate::expect::{Expect, Stream};
use crate::procs::{self, Owned, leader};
use crate::sshd::await_line;
use crate::stage::{Skipped, Stage, new_marker};
use crate::sys;
use crate::world::Server::{Drain, OpenSsh};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "C23",
        title: "a holder lets go and lives on",
        class: Class::Orphaned,
        tier: Tier::Chosen,
        scenario: c23,
    },
    Case {
        id: "O8",
        title: "the end is handed to another user's daemon",
        class: Class::Orphaned,
        tier: Tier::Chosen,
        scenario: o8,
    },
    Case {
        id: "O12",
        title: "a holder inside a pid namespace",
        class: Class::Orphaned,
        tier: Tier::Full,
        scenario: o12,
    },
    Case {
        id: "O15",
        title: "a server that does not even reap its leader",
        class: Class::Orphaned,
        tier: Tier::Full,
        scenario: o15,
    },
    Case {
        id: "H4",
        title: "the leader stopped for 2 s",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: h4,
    },
];

fn c23(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let hold = stage.lasting();
    // `true &&` keeps the subshell from becoming its last command.
    let command = format!("(sleep {hold}; exec >/dev/null 2>&-; sleep {hold}; true) & true");
    let started = stage.start(OpenSsh, &command)?;
    stage.finding("orphaned", &started.marker)?;
    let truth = procs::holders(&started.marker);
    // The first sleep is a child of the other holder, which goes on without it.
    let jobs = procs::marked(&started.marker);
    let sleep = jobs.iter().find(|job| truth.contains_key(&job.parent));
    let sleep = sleep.with_context(|| format!("the scenario made {truth:?}"))?;
    sleep.signal(libc::SIGKILL);
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    stage.settle(1)?;
    ensure!(
        !procs::marked(&run.marker).is_empty(),
        "the job ended with the session"
    );
    procs::end(&run.marker);
    Ok(vec![run.clean().exits(0).held_by(truth)])
}

fn o8(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    /// `nobody` on every distribution that has it.
    const NOBODY: u32 = 65534;
    let world = stage.setting.world;
    let fixture = world.fixture()?;
    // A directory where that user may make a socket.
    let dir = world.dir().join(new_marker());
    std::fs::create_dir(&dir)?;
    std::os::unix::fs::chown(&dir, Some(NOBODY), Some(NOBODY))?;
    let socket = dir.join("socket");
    let mut keeper = Command::new(&fixture);
    keeper
        .arg("keep")
        .arg(&socket)
        .arg(stage.lasting().to_string())
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut keeper = Owned(keeper.spawn().context("cannot start the keeper")?);
    let stdout = keeper.0.stdout.take().context("the keeper has no stdout")?;
    let log = std::fs::File::create(dir.join("log"))?;
    await_line(stdout, log, "ready")?;
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;

    let command = format!(
        "echo $$; exec {} pass {}",
        fixture.display(),
        socket.display()
    );
    let started = stage.start(OpenSsh, &command)?;
    let finding = stage.finding("orphaned", &started.marker)?;
    let sender = started.client.stdout_head().trim().to_owned();
    let sentence = format!("received over a unix socket from fixture pid {sender}");
    ensure!(
        finding.value["message"]
            .as_str()
            .is_some_and(|message| message.contains(&sentence)),
        "it was fixture pid {sender} that sent the end: {}",
        finding.raw
    );
    let kept = std::fs::read_to_string(dir.join("log"))?;
    let fd: i32 = kept
        .lines()
        .last()
        .and_then(|line| line.strip_prefix("kept "))
        .context(kept.clone())?
        .parse()?;
    let truth = [(keeper.0.id(), BTreeSet::from([fd]))].into();
    keeper.0.kill()?;
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    Ok(vec![run.clean().exits(0).held_by(truth)])
}

fn o12(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let probe = stage.run(OpenSsh, "unshare -Urpf true")?;
    if !probe.arrived.status.success() {
        return Err(Skipped("the test user may not make a pid namespace".to_owned()).into());
    }
    let gate = stage.setting.world.fifo(&new_marker())?;
    let command = format!(
        "unshare -Urpf sleep {} & cat {} >/dev/null 2>&1; echo gone",
        stage.lasting(),
        gate.display()
    );
    let started = stage.start(OpenSsh, &command)?;
    procs::poll(stage.setting.patience, "unshare's child", || {
        let inside = procs::marked(&started.marker)
            .into_iter()
            .any(|process| procs::own_pid(process.pid) == Some(1));
        inside.then_some(())
    })?;
    drop(std::fs::File::create(&gate)?);
    let finding = stage.finding("orphaned", &started.marker)?;
    let truth = procs::holders(&started.marker);
    ensure!(truth.len() == 2, "unshare and sleep hold, not {truth:?}");
    for pid in truth.keys() {
        let own = procs::own_pid(*pid).context("no NSpid")?;
        let said = finding.holder(*pid).map(|holder| &holder["ns_pid"]);
        ensure!(
            said.is_some_and(|said| *said == own),
            "pid {pid} is {own} in its namespace, yet called {said:?}"
        );
    }
    ensure!(
        truth.keys().any(|pid| procs::own_pid(*pid) == Some(1)),
        "none of {truth:?} is the first of its namespace"
    );
    procs::end(&started.marker);
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    Ok(vec![
        probe.clean().exits(0),
        run.clean().exits(0).held_by(truth),
    ])
}

fn o15(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let started = stage.start(Drain, &format!("sleep {} & echo gone", stage.lasting()))?;
    stage.finding("orphaned", &started.marker)?;
    let truth = procs::holders(&started.marker);
    procs::end(&started.marker);
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    Ok(vec![run.clean().exits(0).held_by(truth).counts(
        Stream::Stdout,
        Some(5),
        Some(5),
    )])
}

fn h4(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let started = stage.start(OpenSsh, "sleep 0.5; echo x; true")?;
    let leader = leader(&started.marker, stage.setting.patience)?;
    sys::kill(leader.pid, libc::SIGSTOP)?;
    // The stop itself is what is tested; nothing announces its end.
    std::thread::sleep(Duration::from_secs(2));
    sys::kill(leader.pid, libc::SIGCONT)?;
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    Ok(vec![run.clean().exits(0).counts(
        Stream::Stdout,
        Some(2),
        Some(2),
    )])
}
