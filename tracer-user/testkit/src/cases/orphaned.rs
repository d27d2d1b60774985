//! Sessions that stay open because a left-over process holds an output stream.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::case::{Case, Class, Tier};
use crate::client::Client;
use crate::event::Event;
use crate::expect::{Expect, Holders};
use crate::procs;
use crate::stage::{Run, Stage, new_marker};
use crate::sys;
use crate::world::Server::OpenSsh;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "O1",
        title: "sleep & holds stdout and stderr",
        class: Class::Orphaned,
        tier: Tier::Core,
        scenario: o1,
    },
    Case {
        id: "O2",
        title: "nohup and setsid do not let go",
        class: Class::Orphaned,
        tier: Tier::Full,
        scenario: o2,
    },
    Case {
        id: "O3",
        title: "stderr only",
        class: Class::Orphaned,
        tier: Tier::Chosen,
        scenario: o3,
    },
    Case {
        id: "O4",
        title: "a third descriptor only",
        class: Class::Orphaned,
        tier: Tier::Chosen,
        scenario: o4,
    },
    Case {
        id: "O7",
        title: "a grandchild whose parent is gone",
        class: Class::Orphaned,
        tier: Tier::Chosen,
        scenario: o7,
    },
    Case {
        id: "O9",
        title: "two holders, one after the other gone",
        class: Class::Orphaned,
        tier: Tier::Full,
        scenario: o9,
    },
    Case {
        id: "O11",
        title: "two sessions on one connection, one held",
        class: Class::Orphaned,
        tier: Tier::Full,
        scenario: o11,
    },
];

/// A session that hung, what was found, and what was true at that moment.
struct Hung {
    run: Run,
    leader: u32,
    finding: Event,
    truth: Holders,
}

impl Hung {
    fn expect(&self) -> Expect {
        self.run.clean().exits(0).held_by(self.truth.clone())
    }

    /// The one holder, if there is just one.
    fn only(&self) -> anyhow::Result<u32> {
        ensure!(self.truth.len() == 1, "the scenario made {:?}", self.truth);
        self.truth.keys().next().copied().context("no holder")
    }

    /// Checks what the scenario itself has made.
    fn holding(&self, fds: &[&[i32]]) -> anyhow::Result<()> {
        let mut made: Vec<Vec<i32>> = self
            .truth
            .values()
            .map(|set| set.iter().copied().collect())
            .collect();
        made.sort();
        let mut wanted: Vec<Vec<i32>> = fds.iter().map(|set| set.to_vec()).collect();
        wanted.sort();
        ensure!(
            made == wanted,
            "the scenario made holders of {made:?}, not {wanted:?}"
        );
        Ok(())
    }
}

/// Runs a command whose left-over holds the session open until it has been found, and is ended
/// then. The command must end in `;` or `&`: the leader's last act is to print its pid.
fn hang(stage: &Stage<'_>, command: &str) -> anyhow::Result<Hung> {
    let started = stage.start(OpenSsh, &format!("{command} echo $$"))?;
    let finding = stage.finding("orphaned", &started.marker)?;
    let truth = procs::holders(&started.marker);
    procs::end(&started.marker);
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    let leader = run
        .arrived
        .stdout_head
        .trim()
        .parse()
        .context("the leader's pid")?;
    Ok(Hung {
        run,
        leader,
        finding,
        truth,
    })
}

fn o1(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let hung = hang(stage, &format!("sleep {} &", stage.lasting()))?;
    hung.holding(&[&[1, 2]])?;
    // The line arrives when the leader is about to exit: that is the clock.
    let exit = hung
        .run
        .arrived
        .first_stdout
        .context("the line did not arrive")?;
    let latency = hung.finding.at.saturating_duration_since(exit);
    stage.notes.push(format!(
        "flagged {:.3} s after the leader's exit, grace 1 s",
        latency.as_secs_f64()
    ));
    let bound = Duration::from_secs(1) + stage.setting.patience / 30;
    ensure!(
        latency < bound,
        "flagged {:.3} s after the leader's exit",
        latency.as_secs_f64()
    );
    Ok(vec![hung.expect()])
}

fn o2(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let nohup = hang(stage, &format!("nohup sleep {} &", stage.lasting()))?;
    nohup.holding(&[&[1, 2]])?;
    let setsid = hang(stage, &format!("setsid sleep {} &", stage.lasting()))?;
    setsid.holding(&[&[1, 2]])?;
    Ok(vec![nohup.expect(), setsid.expect()])
}

fn o3(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let hung = hang(stage, &format!("sleep {} >/dev/null &", stage.lasting()))?;
    hung.holding(&[&[2]])?;
    ensure!(
        hung.finding.stream() == "stderr",
        "held is {:?}, not stderr",
        hung.finding.stream()
    );
    Ok(vec![hung.expect()])
}

fn o4(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let hung = hang(
        stage,
        &format!("exec 3>&1; sleep {} >/dev/null 2>&1 &", stage.lasting()),
    )?;
    hung.holding(&[&[3]])?;
    Ok(vec![hung.expect()])
}

fn o7(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let hung = hang(
        stage,
        &format!("setsid sh -c 'sleep {} & exit 0';", stage.lasting()),
    )?;
    hung.holding(&[&[1, 2]])?;
    let path = hung.finding.path_of(hung.only()?);
    ensure!(
        path.first() == Some(&hung.leader) && path.last() == Some(&hung.only()?) && path.len() >= 3,
        "path is {path:?}, in truth from leader {} over a shell to {}",
        hung.leader,
        hung.only()?
    );
    Ok(vec![hung.expect()])
}

fn o9(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let hold = stage.lasting();
    let command = format!("sleep {hold} & sleep {hold} >/dev/null & true");
    let started = stage.start(OpenSsh, &command)?;
    stage.finding("orphaned", &started.marker)?;
    let truth = procs::holders(&started.marker);
    let of_both = truth.iter().find(|(_, fds)| fds.len() == 2);
    let (&first, _) = of_both.context("nobody holds both streams")?;
    sys::kill(first, libc::SIGKILL)?;
    let mut second = truth.clone();
    second.remove(&first);
    stage.until("the finding without the first holder", |event| {
        event.finds("orphaned") && event.holders() == second
    })?;
    procs::end(&started.marker);
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    Ok(vec![run.clean().exits(0).held_by(truth)])
}

fn o11(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    // Each run its own: a killed master leaves its socket.
    let socket = stage.setting.world.dir().join(new_marker());
    let control = format!("ControlPath={}", socket.display());
    let target = stage.target(OpenSsh)?;
    // The master sets the environment of every session that goes through it.
    let shared = new_marker();
    let mut master = target.ssh(&shared);
    master.args(["-M", "-N", "-o", &control]);
    let master = Client::start(master)?;
    procs::poll(patience, "the multiplexing socket", || {
        socket.exists().then_some(())
    })?;
    let through = |command: &str| {
        stage.start_with(OpenSsh, command, |ssh| {
            ssh.args(["-o", &control, "-o", "ControlMaster=no"]);
        })
    };
    let held = through(&format!("sleep {} &", stage.lasting()))?;
    let free = through("echo free")?.finish(patience)?.ended_with(0)?;
    ensure!(
        free.arrived.stdout_head == "free\n",
        "got {:?}",
        free.arrived.stdout_head
    );
    stage.finding("orphaned", &held.marker)?;
    let truth = procs::holders(&shared);
    ensure!(truth.len() == 1, "the scenario made {truth:?}");
    procs::end(&shared);
    let held = held.finish(patience)?.ended_with(0)?;
    drop(master);
    Ok(vec![
        held.clean().exits(0).held_by(truth),
        free.clean().exits(0),
    ])
}
