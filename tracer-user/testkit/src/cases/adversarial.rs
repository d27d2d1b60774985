//! Names, bytes and numbers chosen to mislead.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::case::{Case, Class, Tier};
use crate::client::{Client, Target};
use crate::event::Event;
use crate::expect::{Bytes, Expect, Stream, Who};
use crate::procs::{self, poll, poll_every};
use crate::stage::{Stage, new_marker};
use crate::sys;
use crate::tracer::Tracer;
use crate::world::{
    BIG,
    Server::{Eager, OpenSsh, Own},
};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "A1",
        title: "processes that call themselves sshd",
        class: Class::Adversarial,
        tier: Tier::Chosen,
        scenario: a1,
    },
    Case {
        id: "A2",
        title: "escape sequences, newlines and no UTF-8",
        class: Class::Adversarial,
        tier: Tier::Full,
        scenario: a2,
    },
    Case {
        id: "A3",
        title: "a fork bomb and 500 sessions at once",
        class: Class::Adversarial,
        tier: Tier::Full,
        scenario: a3,
    },
    Case {
        id: "A4",
        title: "a ring buffer of one page under load",
        class: Class::Adversarial,
        tier: Tier::Full,
        scenario: a4,
    },
    Case {
        id: "A5",
        title: "the tracer killed mid-session and started again",
        class: Class::Adversarial,
        tier: Tier::Full,
        scenario: a5,
    },
];

fn a1(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    // A script's comm is its file's name, its executable the shell: not a server.
    let dir = stage.setting.world.dir().join(new_marker());
    fs::create_dir(&dir)?;
    let script = dir.join("sshd");
    fs::write(
        &script,
        "#!/bin/bash\nfor i in 1 2 3; do (seq 1 30000 | head -1); done\nsleep 0.2\n",
    )?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let run = stage
        .run(OpenSsh, &format!("{}; true", script.display()))?
        .ended_with(0)?;
    // The same for a process that takes the name.
    let fixture = stage.setting.world.fixture()?;
    let named = stage
        .run(OpenSsh, &format!("{} named sshd", fixture.display()))?
        .ended_with(0)?;
    // A user's own server is one, and told to be the user's.
    let own = stage.run(Own, "echo hi")?.ended_with(0)?;
    Ok(vec![
        own.clean()
            .exits(0)
            .counts(Stream::Stdout, Some(3), Some(3)),
        run.clean()
            .exits(0)
            .counts(Stream::Stdout, Some(6), Some(6)),
        named
            .clean()
            .exits(0)
            .counts(Stream::Stdout, Some(6), Some(6)),
    ])
}

fn a2(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let hold = stage.lasting();
    let name = "$'a\\e[31mred\\n\\xff\\xe2\\x80\\xae\"\\\\'";
    let command = format!("exec -a {name} sleep {hold} & echo {name} >/dev/null; echo here");
    let started = stage.start(OpenSsh, &format!("({command})"))?;
    let finding = stage.finding("orphaned", &started.marker)?;
    let truth = procs::holders(&started.marker);
    procs::end(&started.marker);
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    ensure!(
        !finding.raw.contains('\u{1b}') && !finding.raw.contains('\u{202e}'),
        "the finding carries control characters unescaped: {}",
        finding.raw
    );
    Ok(vec![run.clean().exits(0).held_by(truth).counts(
        Stream::Stdout,
        Some(5),
        Some(5),
    )])
}

/// What the sessions that are open at the same time share evenly.
const CONNECTIONS: usize = 10;

fn a3(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let world = stage.setting.world;
    let sessions = if stage.slow() { 100 } else { 500 };
    let target = stage.target(OpenSsh)?;
    let gate = world.fifo(&new_marker())?;
    let masters = (0..CONNECTIONS)
        .map(|_| Master::start(&target, world.dir(), patience))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut clients = Vec::new();
    for number in 0..sessions {
        let marker = new_marker();
        let mut ssh = target.ssh(&marker);
        masters[number % CONNECTIONS].share(&mut ssh);
        ssh.arg(format!(
            ": {marker}; cat {}; seq 1 {}; exit {}",
            gate.display(),
            1000 + number,
            number % 5
        ));
        clients.push((marker, number, Client::start(ssh)?));
    }
    let bomb = "bomb() { [ $1 = 0 ] || { bomb $(($1 - 1)) & bomb $(($1 - 1)); wait; }; }; bomb 8";
    let bomb = stage.start(OpenSsh, bomb)?;
    let seldom = Duration::from_millis(500);
    poll_every(seldom, patience * 4, "all sessions to be open", || {
        let waiting = procs::readers_of(&gate);
        (waiting == sessions).then_some(())
    })?;
    // Opening and closing the gate lets all of them go on at once.
    drop(fs::File::create(&gate)?);

    let mut expects = vec![
        bomb.finish(patience * 4)?
            .ended_with(0)?
            .clean()
            .exits(0)
            .tolerate(&["stalled"])
            .lacking(),
    ];
    for (marker, number, client) in clients {
        let arrived = client.finish(patience * 4)?;
        let code = i32::try_from(number % 5)?;
        ensure!(
            arrived.status.code() == Some(code),
            "{}: {}",
            arrived.status,
            arrived.stderr_head
        );
        let bytes = Some(arrived.stdout);
        expects.push(
            Expect::clean(Who::Marked(marker), OpenSsh)
                .exits(i64::from(code))
                .counts(Stream::Stdout, bytes, bytes)
                // So many at once do stand still on a small machine.
                .tolerate(&["stalled"])
                .lacking(),
        );
    }
    drop(masters);
    stage.settle(expects.len()).context("a burst of sessions")?;
    Ok(expects)
}

/// A connection that others share (`ControlMaster`, ssh_config(5)).
struct Master {
    _client: Client,
    path: PathBuf,
}

impl Master {
    fn start(target: &Target, dir: &Path, patience: Duration) -> anyhow::Result<Self> {
        let marker = new_marker();
        let path = dir.join(&marker);
        let mut ssh = target.ssh(&marker);
        ssh.args(["-N", "-M", "-S"]).arg(&path);
        let client = Client::start(ssh)?;
        poll(patience, "the master's socket", || {
            path.exists().then_some(())
        })?;
        Ok(Self {
            _client: client,
            path,
        })
    }

    fn share(&self, ssh: &mut Command) {
        ssh.arg("-S").arg(&self.path);
    }
}

fn a4(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    const SESSIONS: usize = 24;
    /// Each makes some 35 records, of which a page holds fewer.
    const UNSEEN: usize = 3;
    /// Bytes of `seq 1 1000`.
    const SEQ: u64 = 3893;
    let setting = stage.setting;
    let patience = setting.patience;
    let small = ["watch", "--ring", "4096"];
    let tracer = Tracer::start(setting.lastbyte, setting.backend, &small, patience)?;
    let mut started = Vec::new();
    for number in 0..SESSIONS {
        let (server, size) = match number % 3 {
            0 => (Eager, BIG),
            _ => (OpenSsh, 1000),
        };
        let command = format!("head -c {size} {}", setting.world.big().display());
        started.push((size, stage.start(server, &command)?));
    }
    let mut runs = Vec::new();
    for (size, one) in started {
        runs.push((size, one.finish(patience)?));
    }
    // A machine may be quick enough to read even a page in time. So the tracer gets no processor
    // while one session goes on and others come and go.
    let gate = setting.world.fifo(&new_marker())?;
    let affected = stage.start(OpenSsh, &format!("seq 1 1000; cat {}", gate.display()))?;
    of(&tracer, &affected.marker, "session_opened", patience)?;
    let mark = tracer.mark();
    sys::kill(tracer.pid(), libc::SIGSTOP)?;
    for _ in 0..UNSEEN {
        let command = format!("head -c 1000 {}", setting.world.big().display());
        runs.push((1000, stage.run(OpenSsh, &command)?));
    }
    sys::kill(tracer.pid(), libc::SIGCONT)?;
    tracer.wait_for(mark, patience, "the gap", |events| {
        events.iter().any(is_loss).then_some(())
    })?;
    drop(fs::File::create(&gate)?);
    runs.push((SEQ, affected.finish(patience)?));
    let mut expects = Vec::new();
    let mut losses = Vec::new();
    for (size, run) in runs {
        let run = run.ended_with(0)?;
        let lost = size - run.arrived.stdout;
        let mut expect = run.clean().exits(0).tolerate(&["stalled"]).lacking();
        losses.push((run.marker, lost));
        if lost > 0 {
            expect = expect.cut(
                Stream::Stdout,
                &["server_closed_early"],
                Bytes::Exactly(lost),
            );
        }
        expects.push(expect);
    }
    stage.settle(SESSIONS + UNSEEN + 1)?;
    let (status, events) = tracer.stop(patience)?;
    ensure!(status.success(), "the small tracer ended with {status}");
    let gaps = events.iter().filter(|event| is_loss(event)).count();
    ensure!(gaps > 0, "a page was enough: no record was lost");

    let mut open = BTreeSet::new();
    let (mut told, mut unknown) = (0, 0);
    let mut affected = BTreeSet::new();
    for event in events.iter().filter(|event| !setting.world.foreign(event)) {
        if is_loss(event) {
            affected.extend(open.iter().cloned());
        }
        let Some(id) = event.session().map(str::to_owned) else {
            continue;
        };
        if event.is("session_opened") {
            open.insert(id);
        } else if event.is("session_closed") {
            open.remove(&id);
            told += 1;
            let truth = losses
                .iter()
                .find(|(marker, _)| event.command().contains(marker))
                .map(|(_, lost)| *lost);
            let fine = match (event.verdict(), truth) {
                ("unknown", _) => event.value["gap"] == true,
                ("truncated", Some(lost)) => lost > 0,
                // Its start is among what was lost: it may be any of them.
                ("truncated", None) => losses.iter().any(|(_, lost)| *lost > 0),
                (_, Some(lost)) => lost == 0 && !affected.contains(&id),
                (_, None) => false,
            };
            unknown += u32::from(event.verdict() == "unknown");
            ensure!(fine, "lost {truth:?} B, yet {}", event.raw);
        }
    }
    ensure!(unknown > 0, "a session was open, and says no gap");
    stage
        .notes
        .push(format!("{gaps} gaps, {unknown} of {told} sessions unknown"));
    Ok(expects)
}

fn is_loss(event: &Event) -> bool {
    event.is("gap") && event.value["reason"] == "lost_records"
}

fn a5(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let setting = stage.setting;
    let patience = setting.patience;
    let gate = setting.world.fifo(&new_marker())?;
    let command = format!("seq 1 1000; cat {}; seq 1 500", gate.display());
    let first = setting.world.dir().join(format!("{}.rec", new_marker()));
    let path = first.display().to_string();
    let tracer = Tracer::start(
        setting.lastbyte,
        setting.backend,
        &["record", &path],
        patience,
    )?;
    let started = stage.start(OpenSsh, &command)?;
    let opened = of(&tracer, &started.marker, "session_opened", patience)?;
    sys::kill(tracer.pid(), libc::SIGKILL)?;
    drop(tracer);

    let again = Tracer::start(setting.lastbyte, setting.backend, &["watch"], patience)?;
    let found = of(&again, &started.marker, "session_opened", patience)?;
    ensure!(
        found.session() == opened.session() && found.value["preexisting"] == true,
        "opened as {}, found again as {}",
        opened.raw,
        found.raw
    );
    let replay = Command::new(setting.lastbyte)
        .args(["replay", "--json", "--all"])
        .arg(&first)
        .output()
        .context("cannot start the replay")?;
    let replayed = String::from_utf8_lossy(&replay.stdout);
    ensure!(
        replayed.lines().any(|line| line == opened.raw),
        "what was printed is not in the recording: {}",
        String::from_utf8_lossy(&replay.stderr).trim_end()
    );

    drop(fs::File::create(&gate)?);
    let run = started.finish(patience)?.ended_with(0)?;
    let closed = of(&again, &run.marker, "session_closed", patience)?;
    ensure!(
        closed.verdict() == "unknown" && closed.value["gap_reasons"][0] == "preexisting",
        "the second tracer did not see it all, yet says {}",
        closed.raw
    );
    let bytes = Some(run.arrived.stdout);
    Ok(vec![run.clean().exits(0).counts(
        Stream::Stdout,
        bytes,
        bytes,
    )])
}

/// What this tracer says of the session with this marker.
fn of(
    tracer: &Tracer,
    marker: &str,
    kind: &'static str,
    patience: Duration,
) -> anyhow::Result<Event> {
    let what = format!("{kind} of {marker}");
    tracer.wait_for(0, patience, &what, |events| {
        // A command that is slow to start is announced without its arguments.
        let mut about_it = events
            .iter()
            .filter(|event| event.command().contains(marker));
        let session = about_it.find_map(Event::session)?;
        events
            .iter()
            .find(|event| event.is(kind) && event.session() == Some(session))
            .cloned()
    })
}
