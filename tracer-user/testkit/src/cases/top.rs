//! The terminal UI on a terminal, while real sessions come and go.

use std::process::{Command, Output};

use anyhow::{Context, ensure};

use crate::case::{Case, Class, Tier};
use crate::expect::Expect;
use crate::procs;
use crate::stage::{Skipped, Stage, new_marker};
use crate::world::Server::OpenSsh;

pub(super) const CASES: &[Case] = &[Case {
    id: "U1",
    title: "top shows an orphan appear, explains it, and sees it leave",
    class: Class::Orphaned,
    tier: Tier::Full,
    scenario: u1,
}];

fn u1(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let mut top = Tmux::start(stage)?;
    top.shows("● live")?;
    let started = stage.start(OpenSsh, &format!("sleep {} &", stage.lasting()))?;
    // Whatever else is on this machine, the list is of this session.
    top.types("/")?;
    top.types(&started.marker)?;
    top.keys("Enter")?;
    top.shows("▲ orphaned")?;
    let finding = stage.finding("orphaned", &started.marker)?;
    let truth = procs::holders(&started.marker);
    let holder = *truth.keys().next().context("nobody holds anything")?;
    top.shows(&format!("holder sleep[{holder}]"))?;
    top.shows("start it as: sleep")?;
    top.keys("Enter")?;
    top.shows("holds stdout, stderr")?;
    top.types("e")?;
    top.shows("What happened")?;
    top.keys("End")?;
    top.shows("is found to hold")?;
    top.keys("Escape")?;
    procs::end(&started.marker);
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    top.shows("· closed")?;
    top.types("3")?;
    top.shows("✓ resolved orphaned")?;
    top.types("q")?;
    ensure!(
        finding.is("finding"),
        "the tracer of all cases found it as well"
    );
    Ok(vec![run.clean().exits(0).held_by(truth)])
}

/// `lastbyte top` in a tmux of its own.
struct Tmux<'a> {
    socket: String,
    stage: &'a Stage<'a>,
}

impl<'a> Tmux<'a> {
    fn start(stage: &'a Stage<'a>) -> anyhow::Result<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            return Err(Skipped("tmux is not installed".to_owned()).into());
        }
        let tmux = Self {
            socket: new_marker(),
            stage,
        };
        let mut top = vec![
            stage.setting.lastbyte.display().to_string(),
            "top".to_owned(),
        ];
        if let Some(backend) = stage.setting.backend {
            top.extend(["--backend".to_owned(), backend.to_owned()]);
        }
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
        let output = command.args(top).env("LC_ALL", "C.UTF-8").output();
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
