//! Copies and repositories, interrupted while bytes are on their way.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;

use super::leave::is_installed;
use crate::client::Client;
use crate::expect::{Expect, Who};
use crate::procs::poll;
use crate::stage::{Skipped, Stage, new_marker};
use crate::sys;
use crate::world::Server::OpenSsh;
use crate::world::USER;

/// What transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    Scp,
    ScpOld,
    Sftp,
    Rsync,
    GitClone,
    GitFetch,
    GitPush,
}

/// Where to, as seen by the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Get,
    Put,
}

impl Tool {
    fn program(self) -> &'static str {
        match self {
            Self::Scp | Self::ScpOld => "scp",
            Self::Sftp => "sftp",
            Self::Rsync => "rsync",
            Self::GitClone | Self::GitFetch | Self::GitPush => "git",
        }
    }
}

/// Starts the transfer and interrupts it once bytes have arrived: as a terminal does, which signals the
/// tool and its `ssh`, and then another one as `kill` does.
pub(super) fn transfer(stage: &mut Stage<'_>, tool: Tool, way: Way) -> anyhow::Result<Vec<Expect>> {
    ensure!(
        is_installed(tool.program()),
        Skipped(format!("{} is not installed", tool.program()))
    );
    let mut expects = Vec::new();
    for whole_group in [true, false] {
        let place = Place::new(stage)?;
        let (mut command, grows) = match tool {
            Tool::GitClone | Tool::GitFetch | Tool::GitPush => git(stage, tool, &place)?,
            _ => copy(stage, tool, way, &place)?,
        };
        command.process_group(0);
        let client = Client::start(command)?;
        poll(
            stage.setting.patience,
            "the transfer to be under way",
            || (size(&grows) > 0).then_some(()),
        )?;
        match whole_group {
            true => sys::kill_group(client.pid(), libc::SIGINT)?,
            false => sys::kill(client.pid(), libc::SIGTERM)?,
        }
        client.finish(stage.setting.patience)?;
        expects.push(Expect::quiet(Who::Unmarked, OpenSsh));
        stage.settle(expects.len())?;
        place.remove();
    }
    Ok(expects)
}

/// Two folders of one transfer: the client's and the server's.
struct Place {
    near: PathBuf,
    far: PathBuf,
}

impl Place {
    fn new(stage: &Stage<'_>) -> anyhow::Result<Self> {
        let name = new_marker();
        let near = stage.setting.world.dir().join(format!("{name}-near"));
        let far = std::env::temp_dir().join(format!("{name}-far"));
        let (uid, gid) = stage.setting.world.ids();
        for folder in [&near, &far] {
            fs::create_dir(folder)?;
        }
        std::os::unix::fs::chown(&far, Some(uid), Some(gid))?;
        Ok(Self { near, far })
    }

    fn remove(&self) {
        // A tool that has not ended yet may still write there; what is left is in /tmp.
        drop(fs::remove_dir_all(&self.near));
        drop(fs::remove_dir_all(&self.far));
    }
}

/// Bytes of a file, or of all files below a folder.
fn size(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else {
        return fs::metadata(path).map_or(0, |file| file.len());
    };
    entries.flatten().map(|entry| size(&entry.path())).sum()
}

/// A copy slow enough to be interrupted, and what grows meanwhile.
fn copy(
    stage: &Stage<'_>,
    tool: Tool,
    way: Way,
    place: &Place,
) -> anyhow::Result<(Command, PathBuf)> {
    let target = stage.target(OpenSsh)?;
    let big = stage.setting.world.big();
    let from = big.display().to_string();
    let to = match way {
        Way::Get => place.near.join("copy"),
        Way::Put => place.far.join("copy"),
    };
    let copied = to.display().to_string();
    let marker = new_marker();
    let mut command = match tool {
        Tool::Rsync => {
            let mut rsync = target.rsync(&marker);
            rsync.args(["--bwlimit=500", "--inplace"]);
            rsync
        }
        _ => {
            let mut command = target.copy_tool(tool.program(), &marker);
            command.args(["-l", "4000"]);
            command
        }
    };
    match (tool, way) {
        (Tool::Sftp, _) => {
            let verb = match way {
                Way::Get => "get",
                Way::Put => "put",
            };
            let batch = place.near.join("batch");
            fs::write(&batch, format!("{verb} {from} {copied}\n"))?;
            command.arg("-b").arg(batch).arg(target.remote(""));
        }
        (_, Way::Get) => {
            if tool == Tool::ScpOld {
                command.arg("-O");
            }
            command.arg(target.remote(&from)).arg(&copied);
        }
        (_, Way::Put) => {
            if tool == Tool::ScpOld {
                command.arg("-O");
            }
            command.arg(&from).arg(target.remote(&copied));
        }
    }
    Ok((command, to))
}

/// Makes a repository here, or there, with a file that does not compress; `$0` is where, `$1` who is to own it.
const REPOSITORY: &str = "\
git init -q \"$0\" && cd \"$0\" && head -c 16M /dev/urandom >blob && git add blob &&
git -c user.name=t -c user.email=t@t commit -q -m blob && chown -R \"$1\" .";

fn git(stage: &Stage<'_>, tool: Tool, place: &Place) -> anyhow::Result<(Command, PathBuf)> {
    let target = stage.target(OpenSsh)?;
    let (near, far) = (place.near.join("repo"), place.far.join("repo"));
    let run = |command: &mut Command| crate::world::run(command);
    let full = match tool {
        Tool::GitPush => (&near, "root"),
        _ => (&far, USER),
    };
    run(Command::new("sh")
        .args(["-c", REPOSITORY])
        .arg(full.0)
        .arg(full.1))?;
    let there = target.remote(&far.display().to_string());
    let mut git = Command::new("git");
    let grows = match tool {
        Tool::GitPush => {
            run(Command::new("git").args(["init", "-q", "--bare"]).arg(&far))?;
            run(Command::new("chown").args(["-R", USER]).arg(&far))?;
            git.arg("-C").arg(&near).args(["push", &there, "HEAD:new"]);
            far.join("objects")
        }
        Tool::GitFetch => {
            run(Command::new("git").args(["init", "-q"]).arg(&near))?;
            git.arg("-C").arg(&near).args(["fetch", &there]);
            near.join(".git/objects")
        }
        _ => {
            git.args(["clone", &there]).arg(&near);
            near.join(".git/objects")
        }
    };
    git.env("GIT_SSH_COMMAND", target.shell(&new_marker()))
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    Ok((git, grows))
}
