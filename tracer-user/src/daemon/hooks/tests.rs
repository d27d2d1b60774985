use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use super::*;
use crate::{
    daemon::config::Config,
    model::{
        FindingBody, Fix, LossCause, SessionId, SessionView, Slot, Started, State, Visible,
        WaitCause,
    },
};

const LONG: Duration = Duration::from_secs(60);
const HOSTILE: &str = "$(touch pwned) `x` '; rm -rf / #\" --help\n{\"a\":1}";

fn finding(cause: LossCause, bytes: u64) -> Update {
    let session = SessionView {
        id: SessionId(4711),
        user: Some(Visible::new(HOSTILE.as_bytes())),
        uid: Some(1),
        peer: None,
        local: None,
        server_exe: Visible::new(b"sshd"),
        server_owner: None,
        server_pid: 1,
        command: Some(Visible::new(HOSTILE.as_bytes())),
        leader_pid: 4711,
        exit: None,
        exited: None,
        opened: 1,
        preexisting: false,
    };
    Update::Finding(Finding {
        time: 1,
        known: 0,
        state: State::Open,
        session: session.into(),
        body: FindingBody::Truncated {
            stream: Slot::Stdout,
            lost: bytes,
            cause,
            margin_ns: None,
        },
        exact: true,
        message: HOSTILE.to_owned(),
        fix: Fix::default(),
        quiet: false,
    })
}

fn loss() -> Update {
    finding(LossCause::ServerClosedEarly, 1000)
}

fn hooks(text: &str) -> Hooks {
    let config = Config::parse(&format!("[[hook]]\n{text}"), "f").unwrap();
    let mut hooks = Hooks::start(&config.hooks).unwrap();
    hooks.update(&Update::Started(Started {
        time: 0,
        wall_offset: 0,
        grace: 0,
        tracer_pid: 1,
        backend: "syscall".into(),
        host: Visible::new(b"vm"),
        kernel: Visible::new(b"6"),
        servers: Vec::new(),
    }));
    hooks
}

/// Lets everything that is queued be done.
fn drained(mut hooks: Hooks) -> HookCounts {
    for worker in &mut hooks.workers {
        worker.sender = None;
        assert_eq!(
            worker.done.recv_timeout(LONG),
            Err(RecvTimeoutError::Disconnected)
        );
    }
    hooks.counts().remove(0)
}

/// A program for a hook and its first argument. The shell is told to read the file: one that was just
/// written cannot be executed while a process that another test forks has it open (ETXTBSY).
fn script(folder: &Path, body: &str) -> String {
    let path = folder.join("script");
    fs::write(&path, format!("cd {}\n{body}\n", folder.display())).unwrap();
    format!("\"/bin/sh\", {:?}", path.display().to_string())
}

fn make_fifo(folder: &Path) -> PathBuf {
    let fifo = folder.join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    fifo
}

fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap()
}

#[test]
fn a_command_gets_the_finding_on_stdin_and_nothing_of_it_as_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let script = script(
        folder.path(),
        r#"printf '%s|' "$@" >args; env | cut -d= -f1 | sort >env; cat >stdin"#,
    );
    let mut hooks = hooks(&format!("command = [{script}, \"a b\", \"$x\"]"));
    hooks.update(&loss());
    assert_eq!(drained(hooks).told, 1);
    let read = |name| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("args"), "a b|$x|");
    // What the shell adds by itself is PWD, and OLDPWD by its cd.
    let env = read("env");
    let known = ["LANG", "OLDPWD", "PATH", "PWD", "SHLVL", "_"];
    assert!(env.lines().all(|name| known.contains(&name)), "{env}");
    let stdin = read("stdin");
    assert_eq!(stdin.matches('\n').count(), 1, "{stdin}");
    let told = json(&stdin);
    assert_eq!(told["type"], "finding");
    assert_eq!(told["kind"], "truncated");
    assert_eq!(told["host"], "vm");
    assert_eq!(told["message"], HOSTILE);
    assert_eq!(told["suppressed"], 0);
    assert!(!folder.path().join("pwned").exists());
}

#[test]
fn a_command_that_hangs_is_killed_with_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = make_fifo(folder.path());
    let script = script(folder.path(), "exec 3>fifo; sleep 300 & wait");
    let mut hooks = hooks(&format!("command = [{script}]\ntimeout = \"2s\""));
    let begun = Instant::now();
    hooks.update(&loss());
    // Ends when no process has it open for writing any more.
    fs::read(&fifo).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(200));
    let counts = drained(hooks);
    assert_eq!((counts.told, counts.failed), (0, 1));
}

#[test]
fn a_command_that_fails_or_is_not_there_is_counted() {
    for command in ["/bin/false", "/nonexistent"] {
        let mut hooks = hooks(&format!("command = [{command:?}]"));
        hooks.update(&loss());
        let counts = drained(hooks);
        assert_eq!(counts.failed, 1, "{command}");
        assert!(counts.failing.is_some(), "{command}");
    }
}

#[test]
fn too_many_are_left_out_and_the_next_says_how_many() {
    let folder = tempfile::tempdir().unwrap();
    let script = script(folder.path(), "cat >>stdin");
    let mut hooks = hooks(&format!("command = [{script}]\nrate = \"2/1h\""));
    for _ in 0..5 {
        hooks.update(&loss());
    }
    let worker = &mut hooks.workers[0];
    let line = Arc::from(r#"{"type":"finding"}"#);
    worker.queue(&line, Instant::now() + Duration::from_secs(3600));
    let counts = drained(hooks);
    assert_eq!((counts.told, counts.suppressed), (3, 3));
    let told = fs::read_to_string(folder.path().join("stdin")).unwrap();
    let suppressed: Vec<_> = told
        .lines()
        .map(|line| json(line)["suppressed"].clone())
        .collect();
    assert_eq!(suppressed, [0, 0, 3]);
}

#[test]
fn a_hook_that_is_slow_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    // The command goes on once somebody writes to it.
    let fifo = make_fifo(folder.path());
    let script = script(folder.path(), "read line <fifo");
    let mut hooks = hooks(&format!(
        "command = [{script}]\nrate = \"100000/1s\"\ntimeout = \"30s\""
    ));
    let begun = Instant::now();
    for _ in 0..1000 {
        hooks.update(&loss());
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
    let counts = hooks.counts().remove(0);
    assert!(counts.dropped >= 1000 - QUEUE as u64 - 1, "{counts:?}");
    let shared = Arc::clone(&hooks.workers[0].shared);
    shared.stop.store(true, Ordering::Relaxed);
    fs::write(&fifo, "on\n").unwrap();
    hooks.finish(LONG);
    assert_eq!(shared.told.load(Ordering::Relaxed), 1);
}

#[test]
fn only_what_is_wanted_is_told() {
    let wanted = |text: &str, update: &Update| {
        let hook = format!("[[hook]]\nurl = \"http://x\"\n{text}");
        let config = Config::parse(&hook, "f").unwrap();
        let Update::Finding(finding) = update else {
            unreachable!()
        };
        wants(&config.hooks[0], finding)
    };
    let gone = finding(LossCause::ClientGone, 5);
    assert!(wanted("", &loss()));
    assert!(!wanted("", &gone), "ordinary");
    assert!(wanted("kinds = [\"truncated\", \"near_miss\"]", &gone));
    assert!(!wanted("kinds = [\"orphaned\"]", &loss()));
    assert!(!wanted("states = [\"resolved\"]", &loss()));
    assert!(!wanted("min_bytes = 1001", &loss()));
    assert!(wanted("min_bytes = 1000", &loss()));
}

/// Answers one request; returns it.
fn serve(listener: &TcpListener, answer: &str) -> (String, String) {
    let (stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    reader.get_mut().write_all(answer.as_bytes()).unwrap();
    (head, String::from_utf8(body).unwrap())
}

fn listener() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn a_finding_is_posted() {
    let (listener, address) = listener();
    let mut hooks = hooks(&format!("url = \"http://{address}/alert?key=x\""));
    hooks.update(&loss());
    let (head, body) = serve(&listener, "HTTP/1.1 204 No Content\r\n\r\n");
    assert!(head.starts_with("POST /alert?key=x HTTP/1.1\r\n"), "{head}");
    assert!(
        head.to_lowercase()
            .contains("content-type: application/json\r\n"),
        "{head}"
    );
    assert_eq!(json(&body)["message"], HOSTILE);
    let counts = drained(hooks);
    assert_eq!((counts.told, counts.failed), (1, 0));
    assert_eq!(
        counts.name, "http://127.0.0.1/…",
        "the rest may be a secret"
    );
}

#[test]
fn a_server_that_refuses_or_sends_elsewhere_is_a_failure() {
    for answer in [
        "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    ] {
        let (listener, address) = listener();
        let mut hooks = hooks(&format!("url = \"http://{address}/\""));
        hooks.update(&loss());
        serve(&listener, answer);
        assert_eq!(drained(hooks).failed, 1, "{answer}");
    }
    let (listener, address) = listener();
    drop(listener);
    let mut hooks = hooks(&format!("url = \"http://{address}/\""));
    hooks.update(&loss());
    assert_eq!(drained(hooks).failed, 1, "connection refused");
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let (listener, address) = listener();
    let mut hooks = hooks(&format!("url = \"http://{address}/\"\ntimeout = \"300ms\""));
    hooks.update(&loss());
    assert_eq!(drained(hooks).failed, 1);
    drop(listener);
}

#[test]
fn https_is_not_spoken_in_the_clear() {
    let (listener, address) = listener();
    let mut hooks = hooks(&format!("url = \"https://{address}/\"\ntimeout = \"5s\""));
    hooks.update(&loss());
    let (mut stream, _) = listener.accept().unwrap();
    let mut first = [0; 3];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(first[..2], [0x16, 0x03], "a TLS handshake");
    drop(stream);
    assert_eq!(drained(hooks).failed, 1);
}

#[test]
fn a_hook_that_stays_keeps_its_counts() {
    let mut hooks = hooks("command = [\"/bin/true\"]\nrate = \"1/1h\"");
    hooks.update(&loss());
    hooks.update(&loss());
    let text = "[[hook]]\nurl = \"http://127.0.0.1:1/\"\n\
                [[hook]]\ncommand = [\"/bin/true\"]\nrate = \"1/1h\"";
    hooks
        .change(&Config::parse(text, "f").unwrap().hooks, 0)
        .unwrap();
    let counts = hooks.counts();
    assert_eq!(counts.len(), 2);
    assert_eq!(counts[0].suppressed, 1);
}

const SECOND: u64 = 1_000_000_000;

/// A hang of session 4711.
fn hang(kind: Kind, state: State, second: u64) -> Update {
    let Update::Finding(it) = loss() else {
        unreachable!()
    };
    Update::Finding(Finding {
        time: second * SECOND,
        known: 0,
        state,
        body: match kind {
            Kind::Orphaned => FindingBody::Orphaned {
                stream: Some(Slot::Stdout),
                written: 0,
                holders: Vec::new(),
            },
            Kind::Stalled => FindingBody::Stalled {
                stream: Slot::Stdout,
                unread: 1000,
                since: None,
            },
            Kind::Waiting => FindingBody::Waiting {
                cause: WaitCause::Forward,
                programs: Vec::new(),
            },
            Kind::Truncated | Kind::NearMiss => it.body,
        },
        ..it
    })
}

/// How many lines the hook has to tell or has told.
fn queued(hooks: &Hooks) -> u64 {
    hooks.counts()[0].queued
}

#[test]
fn a_hang_is_told_once_it_is_old_enough() {
    let states = [State::Open, State::Updated, State::Resolved];
    let folder = tempfile::tempdir().unwrap();
    let script = script(folder.path(), "cat >>stdin; echo >>stdin");
    for kind in [Kind::Orphaned, Kind::Stalled, Kind::Waiting] {
        let mut hooks = hooks(&format!(
            "command = [{script}]\nstates = [\"open\", \"updated\", \"resolved\"]"
        ));
        hooks.update(&hang(kind, State::Open, 100));
        hooks.update(&hang(kind, State::Updated, 103));
        hooks.queue_due(109 * SECOND);
        assert_eq!(queued(&hooks), 0, "9 s");
        hooks.queue_due(110 * SECOND);
        assert_eq!(queued(&hooks), 2, "10 s");
        hooks.queue_due(111 * SECOND);
        assert_eq!(queued(&hooks), 2, "once");
        hooks.update(&hang(kind, State::Resolved, 112));
        assert_eq!(queued(&hooks), 3, "as it was told");
        assert_eq!(drained(hooks).told, 3);
        let told = fs::read_to_string(folder.path().join("stdin")).unwrap();
        let told: Vec<_> = told.lines().filter(|line| !line.is_empty()).collect();
        let found: Vec<_> = told
            .iter()
            .map(|line| json(line)["state"].clone())
            .collect();
        let expected: Vec<_> = states.iter().map(|state| state.name()).collect();
        assert_eq!(found, expected, "in order");
        fs::remove_file(folder.path().join("stdin")).unwrap();
    }
}

#[test]
fn a_hang_that_ends_soon_wakes_nobody() {
    let mut hooks = hooks("command = [\"/bin/true\"]\nstates = [\"open\", \"resolved\"]");
    hooks.update(&hang(Kind::Orphaned, State::Open, 100));
    hooks.update(&hang(Kind::Orphaned, State::Resolved, 109));
    hooks.queue_due(200 * SECOND);
    assert_eq!(queued(&hooks), 0, "it has resolved itself");
    hooks.update(&hang(Kind::Orphaned, State::Open, 300));
    hooks.queue_due(309 * SECOND);
    assert_eq!(queued(&hooks), 0, "the next one begins anew");
    hooks.update(&Update::Forget {
        session: SessionId(4711),
    });
    hooks.queue_due(400 * SECOND);
    assert_eq!(queued(&hooks), 0, "its session is no more");
    hooks.update(&loss());
    assert_eq!(queued(&hooks), 1, "a loss is final");
    assert_eq!(drained(hooks).told, 1);
}

#[test]
fn without_a_least_age_a_hang_is_told_at_once() {
    let mut hooks = hooks("command = [\"/bin/true\"]\nmin_age = \"0s\"");
    hooks.update(&hang(Kind::Waiting, State::Open, 100));
    assert_eq!(queued(&hooks), 1);
    drained(hooks);
}

/// Neither a restart nor a reload tells of a hang twice, or never.
#[test]
fn a_hang_that_was_told_before_a_restart_is_not_told_again() {
    let hang = hang(Kind::Orphaned, State::Open, 100);
    let mut old = hooks("command = [\"/bin/true\"]");
    old.resume(std::slice::from_ref(&hang), 111 * SECOND);
    old.queue_due(200 * SECOND);
    assert_eq!(queued(&old), 0, "it was told before");
    let mut young = hooks("command = [\"/bin/true\"]");
    young.resume(std::slice::from_ref(&hang), 105 * SECOND);
    let text = "[[hook]]\ncommand = [\"/bin/true\", \"-x\"]";
    let other = Config::parse(text, "f").unwrap().hooks;
    young.change(&other, 106 * SECOND).unwrap();
    young.queue_due(110 * SECOND);
    assert_eq!(queued(&young), 1, "it became old enough meanwhile");
    drained(young);
}
