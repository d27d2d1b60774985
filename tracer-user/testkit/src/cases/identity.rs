//! Processes that come and go: who is a holder, and who only looks like one for a moment.

use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::case::{Case, Class, Tier};
use crate::event::Event;
use crate::expect::{Expect, Holders};
use crate::procs::{self, Owned, Process, poll};
use crate::sshd::await_line;
use crate::stage::{Stage, Started};
use crate::sys;
use crate::world::Server::OpenSsh;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "C21",
        title: "a holder that spawns without end",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: c21,
    },
    Case {
        id: "C24",
        title: "a holder's pid is given to a newcomer",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: c24,
    },
];

fn c21(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let fixture = stage.setting.world.fixture()?;
    let command = format!("{} spawn {} & echo $!", fixture.display(), stage.hold());
    let started = stage.start(OpenSsh, &command)?;
    stage.finding("orphaned", &started.marker)?;
    let pid: u32 = started.client.stdout_head().trim().parse()?;
    // Not what it spawns, which has the same for a moment.
    let mut truth = procs::holders(&started.marker);
    truth.retain(|holder, _| *holder == pid);
    ensure!(!truth.is_empty(), "it holds nothing");
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    Ok(vec![run.clean().exits(0).held_by(truth)])
}

fn c24(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let started = stage.start(OpenSsh, "sleep 1000 & sleep 1001 & echo $!")?;
    stage.finding("orphaned", &started.marker)?;
    let truth = procs::holders(&started.marker);
    let gone: u32 = started.client.stdout_head().trim().parse()?;
    let mut stays = truth.clone();
    stays
        .remove(&gone)
        .context("the second job holds nothing")?;
    ensure!(stays.len() == 1, "two hold, not {truth:?}");

    let process = Process::now(gone).context("the second job has ended")?;
    process.signal(libc::SIGKILL);
    // Gone for good, not only dead: the pid must be free.
    poll(patience, "its pid to be free", || {
        Process::now(gone).is_none().then_some(())
    })?;
    let mut newcomer = Command::new(stage.setting.world.fixture()?);
    newcomer
        .args(["pid", &gone.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut newcomer = Owned(newcomer.spawn().context("cannot start the newcomer")?);
    let stdout = newcomer.0.stdout.take().context("it has no stdout")?;
    await_line(stdout, std::io::sink(), "ready").context("the newcomer")?;

    let updated = told(stage, &started, "updated")?;
    ensure!(
        updated.holders() == stays,
        "{:?} hold, in truth {stays:?}",
        updated.holders()
    );
    for pid in stays.keys() {
        sys::kill(*pid, libc::SIGKILL)?;
    }
    let run = started.finish(patience)?.ended_with(0)?;
    stage.settle(1)?;
    let blamed = |event: &Event| event.holders().contains_key(&gone);
    let events = stage.events();
    let after = events.iter().skip_while(|event| event.raw != updated.raw);
    ensure!(!after.clone().any(blamed), "the newcomer is blamed");
    drop(newcomer);
    let truth: Holders = truth;
    Ok(vec![run.clean().exits(0).held_by(truth)])
}

/// Waits for what is told of the holders in this state.
fn told(stage: &Stage<'_>, started: &Started, state: &str) -> anyhow::Result<Event> {
    let what = format!("`orphaned` {state} of {}", started.marker);
    stage
        .setting
        .tracer
        .wait_for(stage.mark, stage.setting.patience, &what, |events| {
            let mut wanted = events.iter().filter(|event| event.finds("orphaned"));
            wanted
                .find(|event| event.state() == state && event.command().contains(&started.marker))
                .cloned()
        })
}
