//! What to do about a finding: commands that can be pasted, or advice.

use super::names::{list, numbered, server_name, streams};
use crate::model::{
    facts::{Session, shell_command},
    redact::MASK,
    view::{Fix, HolderView, LossCause, Origin, Slot, WaitCause},
};

/// Most processes that one command ends.
const MAX_KILLED: usize = 16;
/// From a subshell's start to that of the program that it was made for, ns.
const STARTED_AT_ONCE: u64 = 1_000_000_000;
/// Programs whose forks run a part of their script.
const SHELLS: [&str; 8] = ["ash", "bash", "busybox", "dash", "fish", "ksh", "sh", "zsh"];

/// The holder to name: the job, not the subshell that was forked to start it.
pub(super) fn foremost(holders: &[HolderView]) -> Option<&HolderView> {
    let first = holders.first()?;
    let job = holders.iter().find(|it| {
        let at_once = it.start.saturating_sub(first.start) < STARTED_AT_ONCE;
        at_once && !it.forked && !it.argv.is_empty() && is_below(it, first)
    });
    Some(job.filter(|_| is_subshell(first)).unwrap_or(first))
}

fn is_below(it: &HolderView, other: &HolderView) -> bool {
    it.path.iter().any(|step| step.pid == other.pid)
}

/// A shell that runs a part of a script: its arguments are its parent's.
fn is_subshell(it: &HolderView) -> bool {
    let program = it.argv.first().map_or(it.comm.as_str(), |word| word);
    let name = program.rsplit('/').next().unwrap_or(program);
    it.forked && SHELLS.contains(&name.trim_start_matches('-'))
}

/// How to free a session that these keep open, and how to keep the next one like it from waiting.
pub(super) fn fix(session: &Session, holders: &[HolderView]) -> Fix {
    let Some(job) = foremost(holders) else {
        return Fix::default();
    };
    if matches!(job.origin, Origin::Passed | Origin::Received) {
        return Fix::advice(format!(
            "let {} pid {} {}: it was handed the session's {}, so redirecting a job in the session does not help",
            job.comm,
            job.pid,
            let_go(job),
            streams(&job.streams),
        ));
    }
    let redirect = redirect(job);
    let next = command(job).map(|command| format!("{command} {redirect} &"));
    let advice = match (&next, is_subshell(job)) {
        (Some(_), _) => None,
        (None, true) => Some(format!(
            "redirect that part of the script as a whole: `( … ) {redirect} &`"
        )),
        (None, false) => Some(format!(
            "append `{redirect} &` to the command that starts {}",
            job.comm
        )),
    };
    let mut notes = Vec::new();
    let is_whole = next.is_some() && !is_all_redirected(job);
    notes.extend(missing(job).filter(|_| is_whole));
    notes.extend(others(job, holders));
    if mentions_nohup(session, job) {
        notes.push("nohup alone does not redirect without a terminal".to_owned());
    }
    if !job.rings.is_empty() || !job.sockets.is_empty() {
        notes.push(format!(
            "to end this one let pid {} {}",
            job.pid,
            let_go(job)
        ));
    }
    let (now, warning) = end(holders).unzip();
    Fix {
        now,
        warning,
        next,
        advice,
        note: (!notes.is_empty()).then(|| notes.join("; ")),
    }
}

/// The command that ends all holders, and what that means.
fn end(holders: &[HolderView]) -> Option<(String, String)> {
    let mut pids: Vec<u32> = Vec::new();
    for holder in holders {
        pids.push(holder.pid);
        pids.extend(&holder.shared_with);
    }
    // Some of them do not suffice, and init is nobody's job.
    if pids.len() > MAX_KILLED || pids.iter().any(|pid| *pid <= 1) {
        return None;
    }
    let mut names: Vec<&str> = holders.iter().map(|it| it.comm.as_str()).collect();
    names.dedup();
    let pids = pids.iter().map(ToString::to_string).collect::<Vec<_>>();
    Some((
        format!("kill {}", pids.join(" ")),
        format!("ends {}", shortened(&names)),
    ))
}

fn shortened(names: &[&str]) -> String {
    match names {
        [first, second, rest @ ..] if rest.len() > 1 => {
            format!("{first}, {second} and {} more", rest.len())
        }
        _ => names.join(", "),
    }
}

/// The command that the job was started with, if all of it is known.
fn command(job: &HolderView) -> Option<String> {
    let words = || job.launcher.iter().chain(&job.argv);
    let program = words().next()?;
    // A login shell's name is not that of its program.
    let known = job.argv_verbatim && !job.argv_cut && !is_subshell(job);
    let is_masked = words().any(|word| word.contains(MASK));
    (known && !is_masked && !program.is_empty() && !program.starts_with('-'))
        .then(|| shell_command(words()))
}

/// What keeps all of the session's streams from a job. Its arguments do not tell what it redirects by
/// itself, so that everything is redirected.
fn redirect(job: &HolderView) -> String {
    let mut redirect = format!("</dev/null >{} 2>&1", log_name(&job.comm));
    for fd in job.fds.iter().filter(|fd| **fd > 2) {
        redirect += &format!(" {fd}>&-");
    }
    redirect
}

/// Whether the job has the session's stream as this descriptor. What a ring has registered was a
/// descriptor first, most likely the usual one.
fn has(job: &HolderView, fd: u32, slot: Slot) -> bool {
    let registered = !job.rings.is_empty() && job.streams.contains(&slot);
    job.fds.contains(&fd) || registered
}

fn is_all_redirected(job: &HolderView) -> bool {
    has(job, 1, Slot::Stdout) && has(job, 2, Slot::Stderr)
}

/// What would suffice for a job that redirects some of its streams already.
fn missing(job: &HolderView) -> Option<String> {
    let mut all = Vec::new();
    if has(job, 0, Slot::Stdin) {
        all.push("</dev/null".to_owned());
    }
    match (has(job, 1, Slot::Stdout), has(job, 2, Slot::Stderr)) {
        (true, _) => all.push(format!(">{}", log_name(&job.comm))),
        (false, true) => all.push("2>&1".to_owned()),
        (false, false) => {}
    }
    let high = job.fds.iter().filter(|fd| **fd > 2);
    all.extend(high.map(|fd| format!("{fd}>&-")));
    (!all.is_empty()).then(|| {
        format!(
            "if its other streams are redirected already, `{}` after that is enough",
            all.join(" ")
        )
    })
}

/// What to do about holders that the job's own redirections do not reach.
fn others(job: &HolderView, holders: &[HolderView]) -> Option<String> {
    let rest: Vec<&HolderView> = holders
        .iter()
        .filter(|it| it.identity() != job.identity() && !is_below(it, job))
        .collect();
    let [first, ..] = rest[..] else { return None };
    if rest.iter().all(|it| is_subshell(it) && is_below(job, it)) {
        return Some(format!(
            "{} pid {}, the subshell that started it, has to be redirected as well: `( … ) {} &`",
            first.comm,
            first.pid,
            redirect(job)
        ));
    }
    let pids: Vec<u32> = rest.iter().map(|it| it.pid).collect();
    Some(match pids.len() {
        1 => format!(
            "{} pid {} has to be redirected as well",
            first.comm, first.pid
        ),
        _ => format!("pids {} have to be redirected as well", list(&pids)),
    })
}

fn mentions_nohup(session: &Session, job: &HolderView) -> bool {
    let command = session.view().command.as_deref().unwrap_or("");
    let launched = job.launcher.iter().any(|word| word.ends_with("nohup"));
    launched || command.contains("nohup")
}

/// What a holder has to do to hold no more.
fn let_go(holder: &HolderView) -> String {
    let mut ways = Vec::new();
    if !holder.fds.is_empty() {
        ways.push(format!("close {}", numbered("fd", &holder.fds)));
    }
    if !holder.rings.is_empty() {
        ways.push(format!(
            "unregister it from its io_uring (IORING_UNREGISTER_FILES) or close that ({})",
            numbered("fd", &holder.rings)
        ));
    }
    if !holder.sockets.is_empty() {
        ways.push(format!(
            "receive and close it, or close its unix socket ({})",
            numbered("fd", &holder.sockets)
        ));
    }
    ways.join(", and ")
}

pub(super) fn fix_truncated(session: &Session, cause: LossCause) -> Fix {
    Fix::advice(match cause {
        LossCause::ServerClosedEarly => format!(
            "{} must read to end-of-file before it closes; until it does, let the command end with `; sleep 1`",
            server_name(session.view()),
        ),
        LossCause::WriterCut => {
            "let the command wait for all that write (`wait`) before it exits, or redirect them to a file".to_owned()
        }
        LossCause::ServerKilled => "find out why the server was sent that signal, and run the command again".to_owned(),
        LossCause::Timeout => "see the server's limits (ClientAliveInterval, ClientAliveCountMax, ChannelTimeout)".to_owned(),
        LossCause::Taken => "find out who reads /proc/PID/fd of the session's processes".to_owned(),
        LossCause::Undelivered => "check the network to the client, and run the command again".to_owned(),
        LossCause::PtyHangup => "let the command wait for all that use the terminal before it exits".to_owned(),
        LossCause::ServerDropped => format!(
            "{} must send what it has read before it ends; run the command again",
            server_name(session.view())
        ),
        LossCause::ClientGone => return Fix::default(),
    })
}

pub(super) fn fix_stalled(session: &Session) -> Fix {
    Fix::advice(stalled_advice(session.view().server_pid))
}

/// What to do about a server, of this pid, that does not read.
pub(crate) fn stalled_advice(server: u32) -> String {
    format!(
        "see whether the client still reads (it may be stopped, or piped into something slow); the server's own state: `ps -o stat= -p {server}`"
    )
}

/// What ends the wait for a forward, and keeps the next session from waiting.
pub(super) fn fix_waiting(cause: WaitCause, programs: &[HolderView]) -> Fix {
    let advice = match cause {
        WaitCause::X11 => "start ssh without -X for a command that leaves X11 programs behind",
        WaitCause::Forward => {
            "end what uses the forward, or the client; a forward that is to outlive the command belongs on a \
             connection of its own: `ssh -f -N -L …` (or -R, -D)"
        }
    };
    let (now, warning) = match programs {
        [] => (None, None),
        _ => end(programs).unzip(),
    };
    Fix {
        now,
        warning,
        ..Fix::advice(advice)
    }
}

/// A file name that no shell takes for anything else.
fn log_name(comm: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name: String = comm.chars().filter(|c| safe(*c)).collect();
    match name.trim_start_matches(['.', '-']) {
        "" => "job.log".to_owned(),
        name => format!("{name}.log"),
    }
}
