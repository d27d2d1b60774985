//! Connections that are no sessions, or carry one in an unusual way.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use anyhow::Context as _;

use super::leave::is_installed;
use crate::client::Client;
use crate::expect::{Expect, Stream, Who};
use crate::procs::{self, poll};
use crate::stage::{Stage, new_marker};
use crate::sys;
use crate::world::Server::OpenSsh;

fn free() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

pub(super) fn forwards(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let (near, far, proxy) = (free()?, free()?, free()?);
    let ask = [
        ["-L".to_owned(), format!("{near}:127.0.0.1:9")],
        ["-R".to_owned(), format!("127.0.0.1:{far}:127.0.0.1:9")],
        ["-D".to_owned(), proxy.to_string()],
    ];
    let mut expects = Vec::new();
    for wait in ["", "sleep 0.3; "] {
        let started = stage.start_with(OpenSsh, &format!("{wait}echo x"), |ssh| {
            ssh.args(ask.as_flattened());
        })?;
        let run = started.finish(stage.setting.patience)?.ended_with(0)?;
        let two = Some(2);
        expects.push(run.clean().exits(0).counts(Stream::Stdout, two, two));
    }
    Ok(expects)
}

pub(super) fn jump(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let target = stage.target(OpenSsh)?;
    let over = format!(
        "ProxyCommand={} -W {}:{} {}",
        target.shell("jump"),
        target.host,
        target.port,
        target.host
    );
    let run = stage.start_with(OpenSsh, "echo x", |ssh| {
        ssh.args(["-o", &over]);
    })?;
    let run = run.finish(patience)?.ended_with(0)?;
    let mut expects = vec![run.clean().exits(0)];
    for signal in [libc::SIGINT, libc::SIGKILL] {
        let started = stage.start_with(OpenSsh, "yes", |ssh| {
            ssh.args(["-o", &over]);
        })?;
        poll(patience, "the transfer to be under way", || {
            (started.client.stdout_so_far() > 1 << 16).then_some(())
        })?;
        sys::kill(started.client.pid(), signal)?;
        let marker = started.marker.clone();
        started.client.finish(patience)?;
        expects.push(Expect::quiet(Who::Marked(marker.clone()), OpenSsh));
        stage.settle(expects.len())?;
        procs::end(&marker);
    }
    Ok(expects)
}

pub(super) fn scans(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let target = stage.target(OpenSsh)?;
    let at = (target.host.as_str(), target.port);
    for text in ["", "GET / HTTP/1.0\r\n\r\n", "SSH-2.0-scan\r\n"] {
        let mut scan = TcpStream::connect(at).context("the server's port")?;
        scan.write_all(text.as_bytes())?;
    }
    if is_installed("ssh-keyscan") {
        let mut keyscan = Command::new("ssh-keyscan");
        keyscan
            .args(["-T", "5", "-p", &target.port.to_string(), &target.host])
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        Client::start(keyscan)?.finish(patience)?;
    }
    // A key that the server does not know, then a user that it does not.
    let mut stranger = target.clone();
    stranger.key = stage.setting.world.dir().join("host");
    let mut nobody = target;
    nobody.user = "lb-nobody".to_owned();
    for failing in [stranger, nobody] {
        let marker = new_marker();
        let mut ssh = failing.ssh(&marker);
        ssh.arg("true");
        let arrived = Client::start(ssh)?.finish(patience)?;
        anyhow::ensure!(!arrived.status.success(), "the login worked");
    }
    // A session shows where the connections without one end in the output.
    let run = stage.run(OpenSsh, "echo after")?.ended_with(0)?;
    Ok(vec![run.clean().exits(0)])
}
