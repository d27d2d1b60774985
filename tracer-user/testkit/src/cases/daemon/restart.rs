//! Daemons that end in the middle of a session, and that begin again.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{AFTER, BEFORE, halfway, start, stopped, whole};
use crate::daemon::{Conf, Daemon};
use crate::expect::Expect;
use crate::procs;
use crate::stage::{Stage, new_marker};
use crate::world::Server::OpenSsh;

/// Restarts a daemon in the middle of a session; gives how that closed in its memory, with the gaps.
fn restarted(
    stage: &mut Stage<'_>,
    more: &str,
    between: impl FnOnce(&mut Daemon, &Stage<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<(Value, Vec<Expect>)> {
    let patience = stage.setting.patience;
    let mut daemon = start(stage, more)?;
    let half = halfway(stage)?;
    let marker = half.started.marker.clone();
    let before = kept(&daemon, &marker, patience)?;
    between(&mut daemon, stage)?;
    // Nobody sees it but the programs.
    let meanwhile = stage.run(OpenSsh, "echo meanwhile")?.ended_with(0)?;
    daemon.again(patience)?;
    let found = daemon.session(&marker)?;
    ensure!(
        found["name"] == before["name"] && found["state"] == "running",
        "it was {before}, it is {found}"
    );
    let run = half.goes_on(patience)?;
    let closed = procs::poll(patience, "the session's end", || {
        let session = daemon.session(&marker).ok()?;
        (!session["verdict"].is_null()).then_some(session)
    })?;
    let all = daemon.ls(&["--limit", "0"])?;
    let phantoms: Vec<_> = all
        .iter()
        .filter(|session| session["closed"].is_null())
        .collect();
    ensure!(
        phantoms.is_empty(),
        "sessions that are not there: {phantoms:?}"
    );
    let echo = daemon.ls(&["--command", &meanwhile.marker])?;
    let seen = echo
        .first()
        .map_or(Value::Null, |session| session["verdict"].clone());
    let mut closed = closed;
    closed["meanwhile"] = seen;
    stopped(daemon, stage)?;
    Ok((closed, vec![whole(&run)?, meanwhile.clean().exits(0)]))
}

/// A running session, once it is on the disk: whoever is shown it waits for that.
fn kept(daemon: &Daemon, marker: &str, patience: Duration) -> anyhow::Result<Value> {
    let session = daemon.await_state(marker, "running", patience)?;
    daemon.says(&["show", session["name"].as_str().context("no name")?])?;
    Ok(session)
}

/// Nothing at all was missed.
fn seamless(closed: &Value) -> anyhow::Result<()> {
    let good = |verdict: &Value| verdict == "clean" || verdict == "near_miss";
    ensure!(
        good(&closed["verdict"])
            && good(&closed["meanwhile"])
            && closed["written"] == BEFORE + AFTER
            && closed["gap_reasons"] == serde_json::json!([]),
        "it closed as {closed}"
    );
    Ok(())
}

/// Links of kprobes end with their tracer: what happened meanwhile is a gap.
fn has_kprobes(stage: &Stage<'_>) -> bool {
    stage.setting.tracer.backend() == "kprobe"
}

fn interrupted(closed: &Value) -> anyhow::Result<()> {
    ensure!(
        closed["verdict"] == "unknown"
            && closed["gap_reasons"] == serde_json::json!(["interrupted"]),
        "nobody saw it all, yet it closed as {closed}"
    );
    Ok(())
}

fn as_far_as_seen(stage: &Stage<'_>, closed: &Value) -> anyhow::Result<()> {
    match has_kprobes(stage) {
        true => interrupted(closed),
        false => seamless(closed),
    }
}

pub(super) fn d2(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let (closed, expects) = restarted(stage, "", |daemon, stage| {
        let status = daemon.end(libc::SIGTERM, stage.setting.patience)?;
        ensure!(status.success(), "it ended with {status}: {}", daemon.log());
        Ok(())
    })?;
    as_far_as_seen(stage, &closed)?;
    Ok(expects)
}

pub(super) fn d3(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let (closed, expects) = restarted(stage, "", |daemon, stage| {
        daemon.end(libc::SIGKILL, stage.setting.patience)?;
        Ok(())
    })?;
    // What was taken from the ring and not yet written down is a gap; mostly there was nothing.
    if closed["verdict"] == "unknown" {
        interrupted(&closed)?;
        stage
            .notes
            .push("something was on its way to the disk".to_owned());
    } else {
        as_far_as_seen(stage, &closed)?;
    }
    Ok(expects)
}

pub(super) fn d4(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let (closed, expects) = restarted(stage, "", |daemon, stage| {
        daemon.end(libc::SIGTERM, stage.setting.patience)?;
        // With other servers it is another load.
        daemon.conf.servers.push("another-server");
        Ok(())
    })?;
    as_far_as_seen(stage, &closed)?;
    Ok(expects)
}

pub(super) fn d5(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let mut daemon = start(stage, "")?;
    daemon.end(libc::SIGTERM, patience)?;
    daemon.conf.pins = false;
    daemon.again(patience)?;
    let half = halfway(stage)?;
    let marker = half.started.marker.clone();
    let before = kept(&daemon, &marker, patience)?;
    daemon.end(libc::SIGKILL, patience)?;
    let lost = stage.run(OpenSsh, "echo nobody sees this")?.ended_with(0)?;
    daemon.again(patience)?;
    let found = daemon.session(&marker)?;
    ensure!(
        found["name"] == before["name"],
        "it was {before}, it is {found}"
    );
    let run = half.goes_on(patience)?;
    let closed = daemon.await_state(&marker, "unknown", patience)?;
    interrupted(&closed)?;
    ensure!(
        daemon.ls(&["--command", &lost.marker])?.is_empty(),
        "it tells of what nobody saw"
    );
    stopped(daemon, stage)?;
    Ok(vec![whole(&run)?, lost.clean().exits(0)])
}

pub(super) fn d12(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let dir = stage.setting.world.dir().join(new_marker());
    let mut conf = Conf::new(stage.setting.backend);
    conf.user = "nobody";
    let mut daemon = Daemon::start(stage.setting.lastbyte, &dir, conf, patience)?;
    is_harmless(&daemon)?;
    let half = halfway(stage)?;
    let marker = half.started.marker.clone();
    kept(&daemon, &marker, patience)?;
    daemon.end(libc::SIGTERM, patience)?;
    daemon.again(patience)?;
    is_harmless(&daemon)?;
    let run = half.goes_on(patience)?;
    procs::poll(patience, "the session's end", || {
        daemon
            .session(&marker)
            .ok()
            .filter(|it| !it["verdict"].is_null())
    })?;
    as_far_as_seen(stage, &with_itself(daemon.session(&marker)?))?;

    // What takes reading of others' processes: a holder that received its end.
    let started = stage.start(OpenSsh, &format!("sleep {} &", stage.lasting()))?;
    daemon.await_state(&started.marker, "orphaned", patience)?;
    stage.finding("orphaned", &started.marker)?;
    let holders = procs::holders(&started.marker);
    procs::end(&started.marker);
    let held = started.finish(patience)?.ended_with(0)?;
    daemon.await_state(&held.marker, "clean", patience)?;
    stopped(daemon, stage)?;
    Ok(vec![whole(&run)?, held.clean().exits(0).held_by(holders)])
}

/// There was no other session.
fn with_itself(mut closed: Value) -> Value {
    closed["meanwhile"] = Value::from("clean");
    closed
}

/// Whether it is no longer root, and can be so no more.
fn is_harmless(daemon: &Daemon) -> anyhow::Result<()> {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid()))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|rest| rest.trim().to_owned()).unwrap_or_default()
    };
    let caps = |name: &str| u64::from_str_radix(&field(name), 16).unwrap_or(u64::MAX);
    // CAP_SYS_PTRACE, and CAP_BPF where the kernel needs it.
    let allowed = 1 << 19 | 1 << 39;
    ensure!(
        field("Uid:").split_whitespace().all(|uid| uid == "65534")
            && caps("CapPrm:") & !allowed == 0
            && caps("CapEff:") & !allowed == 0
            && caps("CapInh:") == 0
            && caps("CapAmb:") == 0
            && field("NoNewPrivs:") == "1",
        "it is still {status}"
    );
    Ok(())
}

pub(super) fn d19(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let mut daemon = start(stage, "")?;
    let half = halfway(stage)?;
    let marker = half.started.marker.clone();
    for more in [&[][..], &["--unpin"]] {
        let refused = daemon.rival(more, patience)?;
        let said = String::from_utf8_lossy(&refused.stderr);
        ensure!(
            !refused.status.success() && said.contains(&format!("in use by pid {}", daemon.pid())),
            "a second daemon {more:?}: {}: {said}",
            refused.status
        );
    }
    // What the first one counts is whole all the same.
    let run = half.goes_on(patience)?;
    let closed = procs::poll(patience, "the session's end", || {
        let session = daemon.session(&marker).ok()?;
        (!session["verdict"].is_null()).then_some(session)
    })?;
    ensure!(
        closed["written"] == BEFORE + AFTER && closed["gap_reasons"] == serde_json::json!([]),
        "it closed as {closed}"
    );
    // One that is killed holds nothing, and one that has ended lets others unpin.
    daemon.end(libc::SIGKILL, patience)?;
    daemon.again(patience)?;
    daemon.end(libc::SIGTERM, patience)?;
    let unpinned = daemon.rival(&["--unpin"], patience)?;
    ensure!(
        unpinned.status.success() && !daemon.dir().join("bpf/lastbyte").exists(),
        "unpinning: {unpinned:?}"
    );
    let said = String::from_utf8_lossy(&unpinned.stdout);
    ensure!(
        said.starts_with("detached everything that was pinned in "),
        "unpinning says: {said}"
    );
    ensure!(
        daemon.log().contains("stopping: 0 sessions closed, 0 open"),
        "at its end it says nothing: {}",
        daemon.log()
    );
    Ok(vec![whole(&run)?])
}
