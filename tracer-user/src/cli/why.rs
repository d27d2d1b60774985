//! `lastbyte why`: what a session that hangs is waiting for; also with no history and no daemon.

use std::{fs, io, path::Path, process::ExitCode};

use super::{
    Why,
    blocked::{PAUSE, Writers},
    look::Look,
    printer::Printer,
};
use crate::{
    daemon::{
        client::{Client, ClientError},
        protocol::{Frame, Reply, Request},
    },
    export::{self, Lines, Zone},
    model::{
        Finding, Kind, Listed, SessionId, SessionView, Update,
        message::{command, duration, ended, still_stalled, who},
    },
    probe::boottime,
};

/// A session, and what is wrong with it now.
type Involved<'a> = (&'a SessionView, Vec<&'a Finding>);

impl Why {
    pub(super) fn run(&self, verbose: bool) -> anyhow::Result<ExitCode> {
        let target = Target::parse(&self.target)?;
        if !self.trace.is_chosen()
            && let Some(client) = self.daemon_target.ask(&Request::Now)?
        {
            let state = DaemonState::from(client)?;
            let sessions = state.involving(target);
            if !sessions.is_empty() {
                return self.print(&state.updates, &sessions);
            }
            // A living process may be a member of a session, or a server's parent: a daemon does not
            // tell of all of them.
            let is_alive = matches!(target, Target::Pid(pid) if is_alive(pid));
            if !is_alive && let Some(closed) = self.closed()? {
                return self.print_closed(&closed);
            }
        }
        let look = Look::now(&self.trace, verbose)?;
        let sessions: Vec<_> = look
            .model
            .sessions()
            .filter(|session| look.involves(session, target))
            .map(|session| (session, look.findings(session.id)))
            .collect();
        anyhow::ensure!(!sessions.is_empty(), "{}", look.nothing_about(&self.target));
        let stalls = stalls(&look, &sessions);
        let sessions: Vec<_> = sessions
            .into_iter()
            .map(|(session, mut findings)| {
                let found = stalls.iter().filter(|it| it.session.id == session.id);
                findings.extend(found);
                (session, findings)
            })
            .collect();
        self.print(&look.updates, &sessions)
    }

    /// What the daemon remembers of a session that has closed.
    fn closed(&self) -> anyhow::Result<Option<Listed>> {
        let request = Request::Course {
            session: self.target.clone(),
        };
        let reply = self
            .daemon_target
            .ask(&request)
            .and_then(|client| client.map(|mut client| client.reply()).transpose());
        match reply {
            Ok(Some(Some(Frame::Message(Reply::Listed(listed))))) => {
                Ok(Some(*listed).filter(|listed| listed.end.is_some()))
            }
            Ok(_) | Err(ClientError::Failed(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn print_closed(&self, listed: &Listed) -> anyhow::Result<ExitCode> {
        let text = closed(listed);
        let line = match self.json {
            true => export::diagnosis_json(
                &listed.session,
                "closed",
                listed.end.as_ref(),
                &text,
                listed.wall_offset,
                &listed.host,
            ),
            false => text,
        };
        self.print_lines(&[line])
    }

    fn print_lines(&self, lines: &[String]) -> anyhow::Result<ExitCode> {
        let mut out = Printer::new(self.json, self.bytes);
        lines.iter().try_for_each(|line| out.line(line))?;
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }

    fn print(&self, updates: &[Update], sessions: &[Involved<'_>]) -> anyhow::Result<ExitCode> {
        let mut printer = Lines::new(self.json, true)
            .in_zone(Zone::local())
            .in_any_order();
        let mut lines = Vec::new();
        let (mut wall_offset, mut host) = (0, "");
        for update in updates {
            if let Update::Started(started) = update {
                (wall_offset, host) = (started.wall_offset, started.host.as_str());
                printer.of(update, &mut Vec::new());
            }
        }
        for (session, findings) in sessions {
            for finding in findings {
                printer.of(&Update::Finding(now(finding)), &mut lines);
            }
            if findings.is_empty() {
                let (state, text) = healthy(session);
                lines.push(match self.json {
                    true => export::diagnosis_json(session, state, None, &text, wall_offset, host),
                    false => text,
                });
            }
        }
        self.print_lines(&lines)
    }
}

/// Stalls that only a second look shows, as nobody traced when they began.
fn stalls(look: &Look, sessions: &[Involved<'_>]) -> Vec<Finding> {
    let is_stalled = |findings: &[&Finding]| findings.iter().any(|it| it.kind() == Kind::Stalled);
    let suspects = sessions.iter().filter(|(_, found)| !is_stalled(found));
    let before: Vec<_> = suspects
        .map(|(session, _)| (*session, Writers::of(session, look.members(session.id))))
        .filter(|(_, writers)| !writers.is_empty())
        .collect();
    if before.is_empty() {
        return Vec::new();
    }
    std::thread::sleep(PAUSE);
    let stall = |(session, writers): &(&SessionView, Writers)| {
        let later = Writers::of(session, look.members(session.id));
        writers.stall(&later, session)
    };
    before.iter().filter_map(stall).collect()
}

/// A finding as it is at this moment, about a session by the name that `ls` gives it.
fn now(finding: &Finding) -> Finding {
    let now = boottime();
    let mut finding = finding.clone();
    if let Some(message) = still_stalled(&finding, now) {
        finding.message = message;
    }
    let (short, name) = (who(&finding.session), named(&finding.session));
    if let Some(rest) = finding.message.strip_prefix(&short) {
        finding.message = format!("{name}{rest}");
    }
    finding
}

/// `session 4711-1k2j3 (alice from 10.0.0.5)`.
fn named(session: &SessionView) -> String {
    let short = who(session);
    let rest = short.split_once('(').map_or("", |(_, rest)| rest);
    format!("session {} ({rest}", session.id)
}

/// The present state that a daemon reports.
struct DaemonState {
    updates: Vec<Update>,
}

impl DaemonState {
    fn from(mut client: Client) -> anyhow::Result<Self> {
        let mut updates = Vec::new();
        while let Some(frame) = client.reply()? {
            if let Frame::Message(Reply::State(update)) = frame {
                updates.push(update);
            }
        }
        Ok(Self { updates })
    }

    fn involving(&self, target: Target) -> Vec<Involved<'_>> {
        let sessions = self.updates.iter().filter_map(|update| match update {
            Update::SessionOpened(it) => Some(&*it.session),
            _ => None,
        });
        let of = |session: &SessionView| -> Vec<&Finding> {
            let findings = self.updates.iter().filter_map(|update| match update {
                Update::Finding(it) if it.session.id == session.id => Some(it),
                _ => None,
            });
            findings.collect()
        };
        sessions
            .map(|session| (session, of(session)))
            .filter(|(session, findings)| match target {
                Target::Session(id) => session.id == id,
                Target::Pid(pid) => {
                    let mut holders = findings.iter().flat_map(|finding| finding.holders());
                    [session.leader_pid, session.server_pid].contains(&pid)
                        || holders.any(|holder| holder.pid == pid)
                }
            })
            .collect()
    }
}

/// What a session without a finding is doing: in a word, and in a sentence.
fn healthy(session: &SessionView) -> (&'static str, String) {
    let server = format!("{} pid {}", session.server_exe, session.server_pid);
    let what = format!("{} {}", named(session), command(session));
    let is_served = has_server(session);
    match (session.leader_pid == 0 || session.exit.is_some(), is_served) {
        (true, true) => (
            "ending",
            format!(
                "{what}: the command has exited and no process holds its stdout or stderr; {server} can close it, and \
                 if it does not, it waits for its client or for a forward"
            ),
        ),
        (true, false) => (
            "ending",
            format!(
                "{what}: the command has exited, and its server ({server}) is gone: nothing keeps it open"
            ),
        ),
        (false, true) => (
            "running",
            format!(
                "{what}: nothing is wrong, the command is still running as pid {}, served by {server}",
                session.leader_pid
            ),
        ),
        (false, false) => (
            "running",
            format!(
                "{what}: its server ({server}) is gone, the command is still running as pid {}",
                session.leader_pid
            ),
        ),
    }
}

/// How a session ended that has closed, and when.
fn closed(listed: &Listed) -> String {
    let session = &listed.session;
    let Some(end) = &listed.end else {
        return String::new();
    };
    let wall = end.time.wrapping_add(listed.wall_offset);
    let now = u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or_default();
    let how = match (session.exit, session.exited) {
        (Some(exit), Some(at)) if at >= session.opened => format!(
            "its command {} after {}",
            ended(exit),
            duration(at - session.opened)
        ),
        (Some(exit), _) => format!("its command {}", ended(exit)),
        (None, _) => "its command's exit was not seen".to_owned(),
    };
    format!(
        "{} {}: closed at {}, {} ago: {}; {how}",
        named(session).replacen(&session.id.to_string(), &listed.name, 1),
        command(session),
        Zone::local().date_and_time(wall),
        duration(now.saturating_sub(wall)),
        end.verdict.words(),
    )
}

fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// Whether the session's server is still there, and the pid not another's by now.
fn has_server(session: &SessionView) -> bool {
    let exe = Path::new("/proc")
        .join(session.server_pid.to_string())
        .join("exe");
    match fs::read_link(exe) {
        Ok(path) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.trim_end_matches(" (deleted)") == session.server_exe.as_str()
        }
        // Another user's: it is there, but who it is may not be asked.
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// What is asked about.
#[derive(Clone, Copy)]
pub enum Target {
    Pid(u32),
    Session(SessionId),
}

impl Target {
    fn parse(text: &str) -> anyhow::Result<Self> {
        if let Ok(pid) = text.parse() {
            return Ok(Self::Pid(pid));
        }
        text.parse().map(Self::Session).map_err(|_| {
            anyhow::anyhow!("`{text}` is neither a pid nor a session id such as 4711-1k2j3")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FindingBody, Fix, History, Slot, State};

    fn session(server_exe: &str, server_pid: u32) -> SessionView {
        SessionView {
            id: SessionId(81_234_567 << 22 | 4711),
            user: None,
            uid: Some(0),
            peer: None,
            local: None,
            server_exe: crate::model::Visible::new(server_exe.as_bytes()),
            server_owner: None,
            server_pid,
            command: None,
            leader_pid: 4711,
            exit: None,
            exited: None,
            opened: 0,
            preexisting: false,
        }
    }

    fn stall(since: u64) -> Finding {
        Finding {
            time: since + 1_200_000_000,
            known: 0,
            state: State::Open,
            session: session("sshd", 1).into(),
            body: FindingBody::Stalled {
                stream: Slot::Stdout,
                unread: 5,
                since: Some(since),
            },
            exact: true,
            message: "session 4711 (uid 0) `x has not read stdout for 9 s while y`: the server has not read \
                      stdout for 1.2 s while 5 B wait"
                .to_owned(),
            fix: Fix::default(),
            quiet: false,
        }
    }

    #[test]
    fn a_stall_lasts_until_now_and_its_session_is_named_as_ls_does() {
        let name = session("sshd", 1).id.to_string();
        let long = now(&stall(0)).message;
        assert!(
            long.starts_with(&format!("session {name} (uid 0) `x has")),
            "{long}"
        );
        assert!(long.contains("not read stdout for 9 s while y`"), "{long}");
        assert!(!long.contains("1.2 s"), "{long}");
        assert!(long.ends_with(" while 5 B wait"), "{long}");
    }

    #[test]
    fn a_server_that_is_gone_is_not_said_to_serve() {
        let (_, gone) = healthy(&session("sshd", u32::MAX));
        assert!(
            gone.contains("its server (sshd pid 4294967295) is gone"),
            "{gone}"
        );
        let (_, reused) = healthy(&session("sshd", std::process::id()));
        assert!(
            reused.contains("is gone"),
            "another program by now: {reused}"
        );
    }

    #[test]
    fn of_a_closed_session_it_says_when_and_how_it_ended() {
        let mut session = session("sshd", 1);
        session.exit = Some(crate::model::ExitStatus::Code(3));
        session.exited = Some(2_000_000_000);
        let text = closed(&Listed {
            name: "4711-1k2j3@9f3c2a10".to_owned(),
            host: String::new(),
            wall_offset: 1_700_000_000_000_000_000,
            session: session.into(),
            had: History::default(),
            findings: Vec::new(),
            written: 0,
            end: Some(crate::model::End {
                time: 3_000_000_000,
                verdict: crate::model::Verdict::Clean,
                gaps: Vec::new(),
            }),
        });
        assert!(
            text.starts_with("session 4711-1k2j3@9f3c2a10 (uid 0)"),
            "{text}"
        );
        assert!(text.contains(": closed at 2023-11-1"), "{text}");
        assert!(
            text.ends_with(" ago: clean; its command exited 3 after 2.0 s"),
            "{text}"
        );
    }
}
