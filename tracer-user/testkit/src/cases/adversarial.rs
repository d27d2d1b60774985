//! Names, bytes and numbers chosen to mislead.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, ensure};

use crate::case::{Case, Class, Tier};
use crate::client::Client;
use crate::expect::{Expect, Stream, Who};
use crate::procs;
use crate::stage::{Stage, new_marker};
use crate::world::Server::OpenSsh;

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
        title: "sixty sessions at once",
        class: Class::Adversarial,
        tier: Tier::Full,
        scenario: a3,
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
    Ok(vec![run.clean().exits(0).counts(
        Stream::Stdout,
        Some(6),
        Some(6),
    )])
}

fn a2(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let hold = stage.hold();
    let name = "$'a\\e[31mred\\n\\xff\\xe2\\x80\\xae\"\\\\'";
    let command = format!("exec -a {name} sleep {hold} & echo {name} >/dev/null; echo here");
    let started = stage.start(OpenSsh, &format!("({command})"))?;
    let finding = stage.finding("orphaned", &started.marker)?;
    let truth = procs::holders(&started.marker);
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

fn a3(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    const SESSIONS: usize = 60;
    let target = stage.target(OpenSsh)?;
    let mut clients = Vec::new();
    for number in 0..SESSIONS {
        let marker = new_marker();
        let mut ssh = target.ssh(&marker);
        ssh.arg(format!(
            ": {marker}; seq 1 {}; exit {}",
            1000 + number,
            number % 5
        ));
        clients.push((marker, number, Client::start(ssh)?));
    }
    let mut expects = Vec::new();
    for (marker, number, client) in clients {
        let arrived = client.finish(stage.setting.patience * 2)?;
        let code = i32::try_from(number % 5)?;
        ensure!(
            arrived.status.code() == Some(code),
            "{}: {}",
            arrived.status,
            arrived.stderr_head
        );
        let bytes = Some(arrived.stdout);
        let code = i64::from(code);
        expects.push(
            Expect::clean(Who::Marked(marker), OpenSsh)
                .exits(code)
                .counts(Stream::Stdout, bytes, bytes),
        );
    }
    ensure!(expects.len() == SESSIONS, "not all ran");
    stage.settle(SESSIONS).context("a burst of sessions")?;
    Ok(expects)
}
