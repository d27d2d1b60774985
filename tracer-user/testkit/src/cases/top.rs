//! The terminal UI on a terminal, while real sessions come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output};

use anyhow::{Context, ensure};

use super::daemon;
use crate::case::{Case, Class, Tier};
use crate::expect::Expect;
use crate::procs;
use crate::stage::{Skipped, Stage, Started, new_marker};
use crate::world::Server::OpenSsh;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "U1",
        title: "top shows an orphan appear, explains it, and sees it leave",
        class: Class::Orphaned,
        tier: Tier::Full,
        scenario: u1,
    },
    Case {
        id: "U2",
        title: "top follows a daemon through its restart, and ends a holder",
        class: Class::Daemon,
        tier: Tier::Full,
        scenario: u2,
    },
    Case {
        id: "U3",
        title: "top shows the history of a session with many records",
        class: Class::Daemon,
        tier: Tier::Full,
        scenario: u3,
    },
];

/// A session that is orphaned and the only one in the list.
struct Orphan {
    started: Started,
    truth: BTreeMap<u32, BTreeSet<i32>>,
    holder: u32,
    /// How its holder is shown.
    shown: String,
}

fn orphan(stage: &Stage<'_>, top: &mut Tmux<'_>) -> anyhow::Result<Orphan> {
    let started = stage.start(OpenSsh, &format!("sleep {} &", stage.lasting()))?;
    // Whatever else is on this machine, the list is of this session.
    top.types("/")?;
    top.types(&started.marker)?;
    top.keys("Enter")?;
    top.shows("▲ orphaned")?;
    stage.finding("orphaned", &started.marker)?;
    let truth = procs::holders(&started.marker);
    let holder = *truth.keys().next().context("nobody holds anything")?;
    let shown = format!("holder sleep[{holder}]");
    top.shows(&shown)?;
    Ok(Orphan {
        started,
        truth,
        holder,
        shown,
    })
}

fn u1(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let backend = stage.setting.backend.iter();
    let traces: Vec<&str> = backend.flat_map(|it| ["--backend", it]).collect();
    let mut top = Tmux::start(stage, &traces)?;
    top.shows("● live")?;
    let Orphan { started, truth, .. } = orphan(stage, &mut top)?;
    top.shows("next time: sleep")?;
    top.keys("Enter")?;
    top.shows("holds stdout, stderr")?;
    top.types("e")?;
    top.shows("What happened")?;
    top.keys("End")?;
    top.shows("holds stdout and stderr (fds 1, 2), inherited")?;
    top.keys("Escape")?;
    procs::end(&started.marker);
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    top.shows("· closed")?;
    top.types("3")?;
    top.shows("✓ orphaned, resolved")?;
    top.types("q")?;
    Ok(vec![run.clean().exits(0).held_by(truth)])
}

fn u2(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let mut daemon = daemon::start(stage, "")?;
    let socket = daemon.socket().display().to_string();
    let mut top = Tmux::start(stage, &["--socket", &socket, "--allow-signals"])?;
    top.shows("● live")?;
    let Orphan {
        started,
        truth,
        holder,
        shown,
    } = orphan(stage, &mut top)?;

    // It is told that the daemon has gone, and keeps what it showed: the list, and what it is of.
    daemon.end(libc::SIGKILL, patience)?;
    top.shows("✗ disconnected")?;
    let screen = top.screen();
    ensure!(
        screen.contains(&shown) && screen.contains(&started.marker),
        "it forgot what it showed:\n{screen}"
    );
    daemon.again(patience)?;
    top.shows("● live")?;
    top.shows(&shown)?;

    // Whoever says no sends nothing.
    top.types("K")?;
    top.shows("send SIGTERM?")?;
    top.shows(&format!("sleep pid {holder}"))?;
    top.shows("started ")?;
    top.types("n")?;
    top.shows_no_more("send SIGTERM?")?;
    ensure!(
        procs::Process::now(holder).is_some_and(|it| it.alive()),
        "it was sent a signal unasked"
    );
    top.types("K")?;
    top.shows("send SIGTERM?")?;
    top.types("y")?;
    top.shows(&format!("sent SIGTERM to pid {holder}"))?;
    let run = started.finish(patience)?.ended_with(0)?;
    top.shows("· closed")?;
    top.types("q")?;
    daemon::stopped(daemon, stage)?;
    Ok(vec![run.clean().exits(0).held_by(truth)])
}

fn u3(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let daemon = daemon::start(stage, "")?;
    let gate = stage.setting.world.fifo(&new_marker())?;
    let command = format!(
        "head -c 90000 /dev/urandom | base64 -w 480 | while read word; do /bin/true $word; done; cat {}",
        gate.display()
    );
    let started = stage.start(OpenSsh, &command)?;
    daemon.await_state(&started.marker, "running", patience)?;
    let socket = daemon.socket().display().to_string();
    let mut top = Tmux::start(stage, &["--socket", &socket])?;
    top.shows("● live")?;
    top.types("/")?;
    top.types(&started.marker)?;
    top.keys("Enter")?;
    top.shows("● running")?;
    top.keys("Enter")?;
    // One of its processes, which only its records name.
    top.shows("└ base64 ")?;
    top.types("q")?;
    drop(std::fs::File::create(&gate)?);
    let run = started.finish(patience)?.ended_with(0)?;
    daemon::stopped(daemon, stage)?;
    Ok(vec![run.clean().exits(0)])
}

/// `lastbyte top` in a tmux of its own.
struct Tmux<'a> {
    socket: String,
    stage: &'a Stage<'a>,
}

impl<'a> Tmux<'a> {
    fn start(stage: &'a Stage<'a>, args: &[&str]) -> anyhow::Result<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            return Err(Skipped("tmux is not installed".to_owned()).into());
        }
        let tmux = Self {
            socket: new_marker(),
            stage,
        };
        let lastbyte = stage.setting.lastbyte.display().to_string();
        let mut command = tmux.command();
        command.args([
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "120",
            "-y",
            "40",
        ]);
        // tmux draws what is no ASCII only in a UTF-8 locale.
        command.args([&lastbyte, "top"]).args(args);
        let output = command.env("LC_ALL", "C.UTF-8").output();
        let output = output.context("cannot start tmux")?;
        ensure!(output.status.success(), "tmux: {}", stderr(&output));
        Ok(tmux)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        command.args(["-u", "-L", &self.socket]);
        command
    }

    fn types(&mut self, text: &str) -> anyhow::Result<()> {
        self.send(&["-l", text])
    }

    fn keys(&mut self, name: &str) -> anyhow::Result<()> {
        self.send(&[name])
    }

    fn send(&mut self, what: &[&str]) -> anyhow::Result<()> {
        let output = self.command().arg("send-keys").args(what).output()?;
        ensure!(output.status.success(), "tmux: {}", stderr(&output));
        Ok(())
    }

    fn screen(&self) -> String {
        let output = self.command().args(["capture-pane", "-p"]).output();
        output.map_or_else(
            |_| String::new(),
            |output| String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }

    fn shows(&self, text: &str) -> anyhow::Result<()> {
        procs::poll(self.stage.setting.patience, text, || {
            self.screen().contains(text).then_some(())
        })
        .with_context(|| format!("the screen is\n{}", self.screen()))
    }

    fn shows_no_more(&self, text: &str) -> anyhow::Result<()> {
        procs::poll(
            self.stage.setting.patience,
            &format!("an end of {text}"),
            || (!self.screen().contains(text)).then_some(()),
        )
        .with_context(|| format!("the screen is\n{}", self.screen()))
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        // It has ended already when its only program has.
        drop(self.command().arg("kill-server").output());
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr)
        .trim_end()
        .to_owned()
}
