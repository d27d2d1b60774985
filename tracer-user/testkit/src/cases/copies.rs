//! File copies over SSH: the sums must match, and nothing may be flagged.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};

use crate::case::{Case, Class, Tier};
use crate::client::Client;
use crate::expect::{Expect, Who};
use crate::stage::{Skipped, Stage, new_marker, slow_transfer};
use crate::world::Server::{self, OpenSsh, OpenSshInternal};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "C15a",
        title: "scp, both ways",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: scp,
    },
    Case {
        id: "C15b",
        title: "scp -O, both ways",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: scp_old,
    },
    Case {
        id: "C15c",
        title: "sftp with sftp-server",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: sftp_external,
    },
    Case {
        id: "C15d",
        title: "sftp with internal-sftp",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: sftp_internal,
    },
    Case {
        id: "C15e",
        title: "rsync over ssh, both ways",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: rsync,
    },
];

fn scp(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    with_scp(stage, &[])
}

fn scp_old(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    with_scp(stage, &["-O"])
}

fn with_scp(stage: &Stage<'_>, flags: &[&str]) -> anyhow::Result<Vec<Expect>> {
    let begun = Instant::now();
    let target = stage.target(OpenSsh)?;
    let (big, near, far) = files(stage);
    let mut fetch = target.copy_tool("scp", &new_marker());
    fetch.args(flags).arg(target.remote(&big)).arg(&near);
    copy(stage, fetch)?;
    let mut send = target.copy_tool("scp", &new_marker());
    send.args(flags).arg(&near).arg(target.remote(&far));
    copy(stage, send)?;
    compare(&big, &near)?;
    compare(&big, &far)?;
    Ok(unmarked(OpenSsh, 2, begun))
}

fn sftp_external(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    sftp(stage, OpenSsh)
}

fn sftp_internal(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    sftp(stage, OpenSshInternal)
}

fn sftp(stage: &Stage<'_>, server: Server) -> anyhow::Result<Vec<Expect>> {
    let begun = Instant::now();
    let target = stage.target(server)?;
    let (big, near, far) = files(stage);
    let batch = stage.setting.world.dir().join("batch");
    fs::write(&batch, format!("get {big} {near}\nput {near} {far}\n"))?;
    let mut tool = target.copy_tool("sftp", &new_marker());
    tool.arg("-b").arg(&batch).arg(target.remote(""));
    copy(stage, tool)?;
    compare(&big, &near)?;
    compare(&big, &far)?;
    Ok(unmarked(server, 1, begun))
}

fn rsync(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    if Command::new("rsync").arg("--version").output().is_err() {
        return Err(Skipped("rsync is not installed".to_owned()).into());
    }
    let begun = Instant::now();
    let target = stage.target(OpenSsh)?;
    let (big, near, far) = files(stage);
    let mut fetch = target.rsync(&new_marker());
    fetch.arg(target.remote(&big)).arg(&near);
    copy(stage, fetch)?;
    let mut send = target.rsync(&new_marker());
    send.arg("--no-perms").arg(&near).arg(target.remote(&far));
    copy(stage, send)?;
    compare(&big, &near)?;
    compare(&big, &far)?;
    Ok(unmarked(OpenSsh, 2, begun))
}

/// The file to copy, where its copy goes here, and where the copy's copy goes there.
fn files(stage: &Stage<'_>) -> (String, String, String) {
    let dir = stage.setting.world.dir().display().to_string();
    let number = new_marker();
    (
        format!("{dir}/big"),
        format!("{dir}/{number}"),
        format!("/tmp/{number}-far"),
    )
}

fn copy(stage: &Stage<'_>, tool: Command) -> anyhow::Result<()> {
    let arrived = Client::start(tool)?.finish(stage.setting.patience)?;
    ensure!(
        arrived.status.success(),
        "{}: {}",
        arrived.status,
        arrived.stderr_head.trim_end()
    );
    Ok(())
}

fn compare(original: &str, copy: &str) -> anyhow::Result<()> {
    let read = |path: &str| fs::read(path).with_context(|| format!("cannot read {path}"));
    ensure!(
        read(original)? == read(copy)?,
        "{copy} differs from {original}"
    );
    if Path::new(copy).starts_with("/tmp") && copy.ends_with("-far") {
        fs::remove_file(copy).with_context(|| format!("cannot remove {copy}"))?;
    }
    Ok(())
}

fn unmarked(server: Server, count: usize, begun: Instant) -> Vec<Expect> {
    let expect = Expect::clean(Who::Unmarked, server)
        .exits(0)
        .tolerate(slow_transfer(begun.elapsed()));
    vec![expect; count]
}
