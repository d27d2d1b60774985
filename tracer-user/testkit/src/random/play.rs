//! Plays a drawn session, and says what is true of it.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::plan::{Doing, End, Keeps, Leaving, Plan, Shape};
use crate::cases::{
    self,
    truncated::{client_killed, killed_with},
};
use crate::expect::{Bytes, Expect, Stream, Who};
use crate::procs::{self, Process, poll};
use crate::stage::{Run, Stage};
use crate::sys;
use crate::world::Server::{self, Dropbear, Eager, EagerNoStdin, EagerOnePipe, EagerSocket};

impl Plan {
    pub(super) fn execute(&self, stage: &Stage<'_>) -> anyhow::Result<Expect> {
        match &self.shape {
            Shape::Output {
                stdout,
                stderr,
                pauses,
                end,
            } => {
                let last = match end {
                    End::Code(code) => format!("exit {code}"),
                    End::Killed => "kill -9 $$".to_owned(),
                };
                let command = format!(
                    "{}{}{}{}{last}",
                    pause(pauses[0]),
                    output(*stdout, ""),
                    pause(pauses[1]),
                    output(*stderr, " >&2")
                );
                let begin = Instant::now();
                let run = stage.run(self.server, &command)?;
                let expect = match end {
                    End::Code(code) => run.clean().exits(i64::from(*code)),
                    End::Killed => run.clean().signalled(9),
                };
                let idle = Duration::from_millis(pauses.iter().sum());
                let expect = expect.tolerate(slowness(begin.elapsed().saturating_sub(idle)));
                if self.server == EagerOnePipe {
                    // Both outputs are one stream.
                    return self.arrived(stage, expect, &run, Stream::Stdout, stdout + stderr);
                }
                let expect = self.arrived(stage, expect, &run, Stream::Stdout, *stdout)?;
                self.arrived(stage, expect, &run, Stream::Stderr, *stderr)
            }
            Shape::Late { stdout, later } => {
                let command = format!(
                    "(sleep 0.2; {}true) & {}true",
                    output(*later, ""),
                    output(*stdout, "")
                );
                let begin = Instant::now();
                let run = stage.run(self.server, &command)?;
                let expect = run.clean().tolerate(slowness(begin.elapsed()));
                self.arrived(stage, expect, &run, Stream::Stdout, stdout + later)
            }
            Shape::Held { stdout, jobs } => {
                let mut command = output(*stdout, "");
                for keeps in jobs {
                    let redirect = match keeps {
                        Keeps::Stdout => "2>/dev/null",
                        Keeps::Stderr => ">/dev/null",
                        Keeps::Both => "",
                    };
                    // dropbear hands on no environment: its jobs have no mark by which to end them.
                    let seconds = match self.server {
                        Dropbear => stage.hold(),
                        _ => stage.lasting(),
                    };
                    command.push_str(&format!("sleep {seconds} {redirect} & "));
                }
                command.push_str("exit 0");
                let started = stage.start(self.server, &command)?;
                let marker = started.marker.clone();
                if matches!(
                    self.server,
                    Eager | EagerSocket | EagerNoStdin | EagerOnePipe | Dropbear
                ) {
                    // It closes at once, so nothing hangs; who writes nothing loses nothing.
                    let run = started.finish(stage.setting.patience);
                    procs::end(&marker);
                    let run = run?;
                    return self.arrived(
                        stage,
                        run.clean().exits(0),
                        &run,
                        Stream::Stdout,
                        *stdout,
                    );
                }
                let finding = stage.finding("orphaned", &marker);
                let truth = procs::holders(&marker);
                procs::end(&marker);
                finding?;
                ensure!(truth.len() == jobs.len(), "{truth:?} hold on");
                let run = started.finish(stage.setting.patience)?;
                let expect = run.clean().exits(0).held_by(truth);
                self.arrived(stage, expect, &run, Stream::Stdout, *stdout)
            }
            Shape::Terminal { bytes } => {
                // As they are, without what a terminal makes of line ends.
                let command = format!("stty raw -echo; {}exit 0", output(*bytes, ""));
                let begin = Instant::now();
                let started = stage.start_with(self.server, &command, |ssh| {
                    ssh.arg("-tt");
                })?;
                let run = started.finish(stage.setting.patience)?;
                let expect = run.clean().exits(0).tolerate(slowness(begin.elapsed()));
                ensure!(
                    run.arrived.stdout == *bytes,
                    "{} of {bytes} B arrived",
                    run.arrived.stdout
                );
                Ok(expect)
            }
            Shape::ServerKilled { unread } => killed_with(stage, *unread),
            Shape::ClientKilled => client_killed(stage),
            Shape::Leaves {
                doing,
                leaving,
                after,
            } => leaves(stage, self.server, *doing, *leaving, *after),
            Shape::Taken { written, taken } => cases::stdinless::taken(stage, *written, *taken),
        }
        .with_context(|| format!("session {}", self.number))
    }

    /// Adds what the client's count says about a stream of `written` bytes.
    fn arrived(
        &self,
        stage: &Stage<'_>,
        expect: Expect,
        run: &Run,
        stream: Stream,
        written: u64,
    ) -> anyhow::Result<Expect> {
        let arrived = match stream {
            Stream::Stdout => run.arrived.stdout,
            Stream::Stderr => run.arrived.stderr,
        };
        ensure!(arrived <= written, "{arrived} B arrived of {written}");
        let expect = expect.counts(stream, Some(written), Some(arrived));
        if arrived == written {
            return Ok(expect);
        }
        ensure!(
            matches!(
                self.server,
                Eager | EagerSocket | EagerNoStdin | EagerOnePipe
            ),
            "{arrived} of {written} B of {stream} arrived, with no reason for a loss"
        );
        let lost = written - arrived;
        Ok(match self.shape {
            // Closed with bytes unread and with writers alive: both are true.
            Shape::Held { .. } => expect.cut(
                stream,
                &["server_closed_early", "writer_cut"],
                stage.with_writers(lost),
            ),
            _ => expect.cut(stream, &["server_closed_early"], Bytes::Exactly(lost)),
        })
    }
}

/// Lets the client leave so many milliseconds after its session began to do what it is to do.
fn leaves(
    stage: &Stage<'_>,
    server: Server,
    doing: Doing,
    leaving: Leaving,
    after: u64,
) -> anyhow::Result<Expect> {
    let patience = stage.setting.patience;
    let (window, command) = match doing {
        Doing::Writes => (false, "exec yes".to_owned()),
        Doing::Script => (false, "while :; do echo line; done".to_owned()),
        Doing::Reads => (false, "exec cat".to_owned()),
        Doing::Sleeps => (false, format!("exec sleep {}", stage.hold())),
        Doing::Types => (true, "exec yes".to_owned()),
        Doing::Shell => (true, "exec bash --norc -i".to_owned()),
    };
    let command = format!("echo ready $$; {command}");
    let mut started = match window {
        true => stage.start_in_window(server, &command)?,
        false => stage.start_with(server, &command, |ssh| {
            ssh.stdin(Stdio::piped());
        })?,
    };
    let marker = started.marker.clone();
    let leader = poll(patience, "the session", || {
        let head = started.client.stdout_head();
        let (pid, _) = head.split_once("ready ")?.1.split_once(['\r', '\n'])?;
        pid.parse().ok()
    })?;
    let leader = Process::now(leader);
    // Any moment is a good one.
    thread::sleep(Duration::from_millis(after));
    match leaving {
        Leaving::Signal(signal) => sys::kill(started.client.pid(), signal)?,
        Leaving::Closed if window => started.client.close_window(),
        // What has no window ends with its input, or is ended: as a script's end does.
        Leaving::Closed => {
            started.client.end_input();
            sys::kill(started.client.pid(), libc::SIGHUP)?;
        }
    }
    started.client.finish(patience)?;
    if let (Doing::Sleeps | Doing::Reads, Some(leader)) = (doing, leader) {
        // It neither reads nor writes, so nothing ends it; the session's verdict is there by then.
        let settled = stage.until("the last word", |event| {
            event.is("session_closed") && event.command().contains(&marker)
        });
        leader.signal(libc::SIGKILL);
        settled?;
    }
    Ok(Expect::quiet(Who::Marked(marker), server))
}

/// What may be reported about a session that took this long beyond its own pauses: on a busy machine
/// a writer does stand still, and a late one does outlast the grace time.
fn slowness(took: Duration) -> &'static [&'static str] {
    if took < Duration::from_millis(900) {
        &[]
    } else {
        &["stalled", "orphaned"]
    }
}

fn output(bytes: u64, to: &str) -> String {
    match bytes {
        0 => String::new(),
        _ => format!("head -c {bytes} /dev/zero{to}; "),
    }
}

fn pause(milliseconds: u64) -> String {
    match milliseconds {
        0 => String::new(),
        _ => format!("sleep 0.{milliseconds:03}; "),
    }
}
