//! What `why` says of a session that has closed, and of one that stands still, with no daemon.

use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::expect::Expect;
use crate::procs;
use crate::stage::Stage;
use crate::sys;
use crate::world::Server::OpenSsh;

/// A closed session: when and how it ended, by the name that `ls` has for it and by its command's pid.
pub(super) fn d20(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let daemon = super::start(stage, "")?;
    let run = stage.run(OpenSsh, "echo here; exit 7")?.ended_with(7)?;
    let session = procs::poll(patience, "the closed session in the list", || {
        let session = daemon.session(&run.marker).ok()?;
        (!session["closed"].is_null()).then_some(session)
    })?;
    let text = |key: &str| session[key].as_str().with_context(|| key.to_owned());
    let (name, closed, verdict) = (text("name")?, text("closed")?, text("verdict")?);
    let pid = session["session"]["leader"]["pid"].to_string();
    for target in [name, &pid] {
        let why = daemon.says(&["why", target])?;
        let how = format!("ago: {verdict}; its command exited 7 after ");
        ensure!(
            why.starts_with(&format!("session {name} (")) && why.contains(": closed at "),
            "why {target} says {why}"
        );
        ensure!(why.contains(&how), "why {target} says {why}");
        let why: Value = serde_json::from_str(&daemon.says(&["why", target, "--json"])?)?;
        ensure!(
            why["type"] == "diagnosis" && why["state"] == "closed" && why["closed"] == closed,
            "why {target} says {why}; it closed at {closed}"
        );
    }
    super::stopped(daemon, stage)?;
    Ok(vec![run.clean().exits(7)])
}

/// A stall that is found without a daemon, by a tracer that comes after it began.
pub(super) fn d21(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    // The client's window is 2 MiB: this much is never all on its way.
    const SIZE: u64 = 16 << 20;
    let patience = stage.setting.patience;
    let started = stage.start(OpenSsh, &format!("head -c {SIZE} /dev/zero"))?;
    procs::poll(patience, "the transfer to be under way", || {
        (started.client.stdout_so_far() > 1 << 20).then_some(())
    })?;
    sys::kill(started.client.pid(), libc::SIGSTOP)?;
    let found = stalled(stage, &started.marker);
    sys::kill(started.client.pid(), libc::SIGCONT)?;
    found?;
    let run = started.finish(patience)?.ended_with(0)?;
    Ok(vec![run.whole(SIZE)?.require(&["stalled"])])
}

fn stalled(stage: &Stage<'_>, marker: &str) -> anyhow::Result<()> {
    let finding = stage.finding("stalled", marker)?;
    let leader_pid = &finding.value["session"]["leader"]["pid"];
    let leader = leader_pid.to_string();
    let why = |more: &[&str]| {
        let output = Command::new(stage.setting.lastbyte)
            .args(["why", &leader, "--no-daemon"])
            .args(more)
            .output()
            .context("cannot run lastbyte why")?;
        ensure!(
            output.status.success(),
            "why: {}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        Ok(String::from_utf8(output.stdout)?)
    };
    let text = why(&[])?;
    ensure!(
        text.contains(" STALLED ")
            && text.contains("the server has not read stdout for at least ")
            && text.contains(" waits to write to it"),
        "why says {text}"
    );
    let found: Value = serde_json::from_str(&why(&["--json"])?)?;
    ensure!(
        found["kind"] == "stalled"
            && found["stream"] == "stdout"
            && found["session"]["leader"]["pid"] == *leader_pid,
        "why says {found}"
    );
    Ok(())
}
