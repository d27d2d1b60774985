//! Clients that leave while their command runs.

use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::client::Client;
use crate::expect::{Expect, Who};
use crate::procs::{self, Process, poll};
use crate::stage::{Stage, Started, new_marker};
use crate::sys;
use crate::world::Server;

/// What the command does when its client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// A program that writes without end.
    Writes,
    /// A shell that writes without end itself.
    Script,
    /// Two programs with a pipe between them.
    Pipeline,
    /// A program that reads what the client sends.
    Reads,
    /// A program that does nothing.
    Sleeps,
    /// A program that has written much and waits for more.
    Follows,
    /// A shell on a terminal, at its prompt.
    Shell,
    /// A program that writes to a terminal without end.
    Types,
    /// A program that redraws the terminal.
    Top,
    /// A program that has the terminal in raw mode.
    Editor,
}

/// How the client leaves.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// It gets this signal.
    Signal(i32),
    /// `timeout` ends it.
    TimeLimit,
    /// The user presses these keys.
    Keys(&'static str),
    /// The window it runs in is closed.
    WindowClosed,
}

impl Doing {
    fn in_window(self) -> bool {
        matches!(self, Self::Shell | Self::Types | Self::Top | Self::Editor)
    }

    fn program(self) -> &'static str {
        match self {
            Self::Top => "top",
            Self::Editor => "vi",
            _ => "bash",
        }
    }

    fn command(self, stage: &Stage<'_>) -> String {
        match self {
            Self::Writes | Self::Types => "exec yes".to_owned(),
            Self::Script => "while :; do echo line; done".to_owned(),
            Self::Pipeline => "yes | tr y n".to_owned(),
            Self::Reads => "exec cat".to_owned(),
            Self::Sleeps => format!("exec sleep {}", stage.lasting()),
            Self::Follows => format!("exec tail -n +1 -f {}", stage.setting.world.big().display()),
            Self::Shell => "exec bash --norc -i".to_owned(),
            Self::Top => "exec top -d 0.5".to_owned(),
            Self::Editor => "exec vi".to_owned(),
        }
    }

    /// Bytes at the client that show that the command does what it is to do.
    fn enough(self, stage: &Stage<'_>) -> u64 {
        match self {
            Self::Writes | Self::Pipeline | Self::Types if !stage.slow() => 1 << 20,
            Self::Writes | Self::Script | Self::Pipeline | Self::Types => 1 << 14,
            Self::Follows => crate::world::BIG,
            Self::Top | Self::Editor => 400,
            // The line above the prompt, and the prompt: keys pressed before are lost.
            Self::Shell => 24,
            Self::Reads | Self::Sleeps => 0,
        }
    }
}

/// Starts a session for each of `doings`, one after the other, and lets its client leave.
///
/// At the same time they would keep each other waiting, and who is first at a close is the point.
pub(super) fn leave(
    stage: &mut Stage<'_>,
    server: Server,
    doings: &[Doing],
    ending: Ending,
) -> anyhow::Result<Vec<Expect>> {
    let mut expects = Vec::new();
    for &doing in doings.iter().filter(|doing| is_installed(doing.program())) {
        let mut started = start(stage, server, doing, ending)?;
        let marker = started.marker.clone();
        let leader = under_way(stage, doing, &started, ending)?;
        match ending {
            Ending::Signal(signal) => sys::kill(started.client.pid(), signal)?,
            Ending::TimeLimit => {}
            Ending::Keys(keys) => started.client.say(keys)?,
            Ending::WindowClosed => started.client.close_window(),
        }
        let left = started.client.finish(stage.setting.patience);
        left.with_context(|| format!("{doing:?}"))?;
        expects.push(Expect::quiet(Who::Marked(marker.clone()), server));
        // What the client has left running would otherwise stay for long.
        let settled = stage.settle(expects.len());
        procs::end(&marker);
        if let Some(leader) = leader {
            leader.signal(libc::SIGKILL);
        }
        settled?;
    }
    Ok(expects)
}

fn start(
    stage: &Stage<'_>,
    server: Server,
    doing: Doing,
    ending: Ending,
) -> anyhow::Result<Started> {
    let marker = format!("{}-{doing:?}", new_marker());
    let mut ssh = stage.target(server)?.ssh(&marker);
    let mut prepare = "echo ready $$;";
    if doing.in_window() {
        ssh.arg("-tt").env("TERM", "xterm");
        prepare = "stty rows 24 cols 80; echo ready $$;";
    }
    ssh.arg(format!(": {marker}; {prepare} {}", doing.command(stage)));
    if let Ending::TimeLimit = ending {
        ssh = limited(&ssh, stage.hold());
    }
    if doing == Doing::Reads {
        ssh.stdin(Stdio::piped());
    }
    let begun = std::time::Instant::now();
    let client = match doing.in_window() {
        true => Client::start_in_window(ssh)?,
        false => Client::start(ssh)?,
    };
    Ok(Started {
        begun,
        client,
        marker,
        server,
    })
}

/// The same command under `timeout`.
fn limited(command: &Command, seconds: u64) -> Command {
    let mut limited = Command::new("timeout");
    limited
        .arg(seconds.to_string())
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    limited
}

/// Waits until the command does what it is to do before the `ending`; gives its leader, if that still runs.
fn under_way(
    stage: &Stage<'_>,
    doing: Doing,
    started: &Started,
    ending: Ending,
) -> anyhow::Result<Option<Process>> {
    // Its time may pass before much has been written.
    let limited = matches!(ending, Ending::TimeLimit);
    let what = format!("{doing:?} to be under way");
    poll(stage.setting.patience, &what, || {
        let leader = ready(&started.client);
        let enough = limited || started.client.stdout_so_far() >= doing.enough(stage);
        // One that is under way may have been ended already.
        (enough && pid_of(&started.client).is_some()).then_some(leader)
    })
}

fn pid_of(client: &Client) -> Option<u32> {
    let head = client.stdout_head();
    let (_, behind) = head.split_once("ready ")?;
    behind.split_once(['\r', '\n'])?.0.parse().ok()
}

/// The process that has printed `ready` and its pid, if it still runs.
pub(crate) fn ready(client: &Client) -> Option<Process> {
    Process::now(pid_of(client)?)
}

/// Whether there is such a program.
pub(super) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}
