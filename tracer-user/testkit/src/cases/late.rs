//! A tracer that comes after the session.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::case::{Case, Class, Tier};
use crate::event::Event;
use crate::expect::{Expect, Holders, Who};
use crate::procs;
use crate::stage::{Setting, Stage, Started};
use crate::tracer::Tracer;
use crate::world::Server::{EagerSocket, OpenSsh};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "O14",
        title: "the tracer comes after the hang",
        class: Class::Orphaned,
        tier: Tier::Full,
        scenario: o14,
    },
    Case {
        id: "O14b",
        title: "the tracer comes after a terminal and a socketpair",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: o14b,
    },
];

/// The tracer that comes late, and how long it is waited for.
struct Late {
    tracer: Tracer,
    patience: Duration,
}

impl Late {
    fn start(setting: &Setting<'_>) -> anyhow::Result<Self> {
        let patience = setting.patience;
        let tracer = Tracer::start(setting.lastbyte, setting.backend, &["watch"], patience)?;
        Ok(Self { tracer, patience })
    }

    /// Waits for an event.
    fn says(&self, what: &str, wanted: impl Fn(&Event) -> bool) -> anyhow::Result<Event> {
        let what = format!("the late tracer's {what}");
        self.tracer.wait_for(0, self.patience, &what, |events| {
            events.iter().find(|event| wanted(event)).cloned()
        })
    }

    /// Waits for the session to be told, as one that began before.
    fn opened(&self, is_its: impl Fn(&Event) -> bool) -> anyhow::Result<()> {
        let opened = self.says("session_opened", |event| {
            event.is("session_opened") && is_its(event)
        })?;
        ensure!(
            opened.value["preexisting"].as_bool() == Some(true),
            "the late tracer does not say that the session began before it"
        );
        Ok(())
    }

    /// Waits for the session's end, which nobody can call clean without its history.
    fn closed(&self, is_its: impl Fn(&Event) -> bool) -> anyhow::Result<Event> {
        let closed = self.says("session_closed", |event| {
            event.is("session_closed") && is_its(event)
        })?;
        ensure!(
            closed.verdict() == "unknown",
            "the late tracer judges {:?} without the history",
            closed.verdict()
        );
        Ok(closed)
    }
}

fn o14(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let setting = stage.setting;
    let command = format!("sleep {} & echo $PPID", stage.lasting());
    let started = stage.start(OpenSsh, &command)?;
    stage.finding("orphaned", &started.marker)?;
    let server: u32 = started
        .client
        .stdout_head()
        .trim()
        .parse()
        .context("the server's pid")?;
    let truth = procs::holders(&started.marker);

    let late = Late::start(&setting)?;
    let is_its = |event: &Event| event.server() == Some(server);
    late.opened(is_its)?;
    let finding = late.says("`orphaned`", |event| {
        event.finds("orphaned") && is_its(event)
    })?;
    let named = finding.holders();
    ensure!(
        named == truth,
        "the late tracer names {named:?}, in truth {truth:?}"
    );
    why(stage, server, &truth)?;
    procs::end(&started.marker);

    let run = started.finish(setting.patience)?.ended_with(0)?;
    late.closed(is_its)?;
    late.tracer.stop(setting.patience)?;
    Ok(vec![
        Expect::clean(Who::Marked(run.marker), OpenSsh)
            .exits(0)
            .held_by(truth),
    ])
}

/// A session that answers a line, and ends with a second one.
fn answering(
    stage: &Stage<'_>,
    server: crate::world::Server,
    option: &str,
) -> anyhow::Result<Started> {
    let command = "echo up; read line; echo got $line; read end";
    let started = stage.start_with(server, command, |ssh| {
        ssh.stdin(Stdio::piped()).arg(option);
    })?;
    let up = || started.client.stdout_head().contains("up").then_some(());
    procs::poll(stage.setting.patience, "the command's first line", up)?;
    Ok(started)
}

fn o14b(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    /// `got a line`. What a terminal echoes comes on top, and its carriage returns.
    const ANSWER: u64 = 11;
    let setting = stage.setting;
    let sessions = [
        (answering(stage, OpenSsh, "-tt")?, "pty:"),
        (answering(stage, EagerSocket, "-T")?, "unix:"),
    ];
    let late = Late::start(&setting)?;
    let mut expected = Vec::new();
    for (mut started, object) in sessions {
        let marker = started.marker.clone();
        let is_its = |event: &Event| event.command().contains(&marker);
        late.opened(is_its)?;
        started.client.say("a line\n")?;
        procs::poll(setting.patience, "the answer", || {
            started
                .client
                .stdout_head()
                .contains("got a line")
                .then_some(())
        })?;
        started.client.say("\n")?;
        let run = started.finish(setting.patience)?.ended_with(0)?;
        let closed = late.closed(is_its)?;
        let streams = closed.value["streams"].as_array().context("no streams")?;
        let stdout = streams
            .iter()
            .find(|stream| stream["stream"] == "stdout")
            .context("the late tracer knows of no stdout")?;
        ensure!(
            stdout["object"]
                .as_str()
                .is_some_and(|it| it.starts_with(object))
                && stdout["written"].as_u64() >= Some(ANSWER)
                && stdout["read"].as_u64() >= Some(ANSWER)
                && stdout["unread"].as_u64() == Some(0),
            "the late tracer saw of `got a line` on a {object}: {stdout}"
        );
        expected.push(run.clean().exits(0));
    }
    // What servers say to one another is no session.
    let ports = [stage.target(OpenSsh)?.port, stage.target(EagerSocket)?.port];
    let is_opened = |event: &&Event| {
        let port = event.local_port();
        event.is("session_opened") && port.is_some_and(|port| ports.contains(&port))
    };
    let opened = late
        .tracer
        .look(|events| events.iter().filter(is_opened).count());
    ensure!(
        opened == expected.len(),
        "the late tracer tells of {opened} sessions, not {}",
        expected.len()
    );
    late.tracer.stop(setting.patience)?;
    Ok(expected)
}

/// `lastbyte why` about the server's pid must name the same holders.
fn why(stage: &Stage<'_>, server: u32, truth: &Holders) -> anyhow::Result<()> {
    let output = std::process::Command::new(stage.setting.lastbyte)
        .args(["why", &server.to_string(), "--json"])
        .output()
        .context("cannot run lastbyte why")?;
    ensure!(
        output.status.success(),
        "why: {}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let named: Vec<Holders> = text
        .lines()
        .filter_map(|line| Event::parse(line.to_owned()).ok())
        .filter(|event| event.finds("orphaned"))
        .map(|event| event.holders())
        .collect();
    ensure!(
        named == [truth.clone()],
        "why names {named:?}, in truth {truth:?}; it printed {text}"
    );
    Ok(())
}
