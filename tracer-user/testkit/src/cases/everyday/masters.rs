//! Sessions that share one connection, and its ends.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::ensure;

use super::leave::ready;
use crate::client::Client;
use crate::expect::{Expect, Who};
use crate::procs::{Process, poll};
use crate::stage::{Stage, Started};
use crate::sys;
use crate::world::Server::OpenSsh;

/// What happens to the sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// The master gets `-O exit`.
    Exit,
    /// The master gets `-O stop`, and each session's client SIGINT.
    Stop,
    /// One session's client gets SIGINT while the others go on; then they do too.
    Interrupted,
    /// The master gets SIGTERM.
    Terminated,
    /// The master gets SIGKILL.
    Killed,
}

/// What its sessions do.
const COMMANDS: &[&str] = &["yes", "sleep 300", "cat"];

pub(super) fn master(stage: &mut Stage<'_>, last: Last) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let target = stage.target(OpenSsh)?;
    let socket = stage.setting.world.dir().join(crate::stage::new_marker());
    let mut ssh = target.ssh("master");
    ssh.args(["-M", "-N", "-S"]).arg(&socket);
    let master = Client::start(ssh)?;
    poll(patience, "the master", || socket.exists().then_some(()))?;
    let mut sessions = Vec::new();
    for command in COMMANDS {
        let started =
            stage.start_with(OpenSsh, &format!("echo ready $$; exec {command}"), |ssh| {
                ssh.arg("-S").arg(&socket).stdin(Stdio::piped());
            })?;
        // The environment of all of them is the master's: they have no mark of their own.
        let leader = poll(patience, "a session to be under way", || {
            ready(&started.client)
        })?;
        sessions.push((started, leader));
    }
    let expects: Vec<Expect> = sessions
        .iter()
        .map(|(one, _)| Expect::quiet(Who::Marked(one.marker.clone()), OpenSsh))
        .collect();
    match last {
        Last::Exit => control(&target.host, &socket, "exit")?,
        Last::Stop => control(&target.host, &socket, "stop")?,
        Last::Terminated => sys::kill(master.pid(), libc::SIGTERM)?,
        Last::Killed => sys::kill(master.pid(), libc::SIGKILL)?,
        Last::Interrupted => {}
    }
    let interrupted = matches!(last, Last::Stop | Last::Interrupted);
    let mut leaders = Vec::new();
    for ((session, leader), command) in sessions.into_iter().zip(COMMANDS) {
        let sleeps = command.starts_with("sleep");
        end(stage, session, &leader, interrupted, sleeps)?;
        leaders.push(leader);
    }
    if interrupted {
        // Its sessions are closed by then, and the connection is not. A signal that comes just before the
        // client waits goes unnoticed: it is repeated.
        let process = Process::now(master.pid());
        poll(patience, "the end of the master", || {
            let process = process.as_ref().filter(|one| one.alive());
            process
                .is_none_or(|one| {
                    one.signal(libc::SIGTERM);
                    false
                })
                .then_some(())
        })?;
    }
    master.finish(patience)?;
    let settled = stage.settle(expects.len());
    leaders
        .iter()
        .for_each(|leader| leader.signal(libc::SIGKILL));
    settled?;
    Ok(expects)
}

fn end(
    stage: &Stage<'_>,
    session: Started,
    leader: &Process,
    interrupted: bool,
    sleeps: bool,
) -> anyhow::Result<()> {
    if interrupted {
        sys::kill(session.client.pid(), libc::SIGINT)?;
    }
    let patience = stage.setting.patience;
    if let Some(client) = Process::now(session.client.pid()) {
        client.gone(patience)?;
    }
    if interrupted {
        // A command that neither reads nor writes does not learn of it, and keeps its session; the
        // master has the client's output until then.
        if sleeps {
            leader.signal(libc::SIGKILL);
        }
        leader.gone(patience)?;
    }
    session.client.finish(patience)?;
    Ok(())
}

fn control(host: &str, socket: &Path, what: &str) -> anyhow::Result<()> {
    let output = Command::new("ssh")
        .args(["-F", "none", "-O", what, "-S"])
        .arg(socket)
        .arg(host)
        .output()?;
    ensure!(
        output.status.success(),
        "ssh -O {what}: {}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(())
}
