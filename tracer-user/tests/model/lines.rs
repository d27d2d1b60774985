//! What leaves the program: the JSON contract and the lines for people.

use serde_json::{Value, json};
use tracer_ebpf::{chld, edge};

use crate::scenario::{STDERR, STDIN, STDOUT, Scenario, empty, stdout_has};

/// A session that is orphaned, released, and loses its stderr.
fn eventful() -> Scenario {
    let mut scenario = Scenario::exact();
    scenario
        .after(5)
        .runs(5000, "sleep 20 &")
        .spawn(5000, 5000, 5001, &["sleep", "20"]);
    scenario
        .after(1200)
        .leader_exits(5000, 0, empty())
        .chld(5000, chld::REAPED, empty())
        .tick();
    scenario.run(1100, |scenario| {
        scenario
            .server_holds(5000)
            .holds(5000, 5001, "sleep", &[(1, 1), (2, 2)]);
    });
    scenario
        .exits(5000, 5001)
        .closes(5000, STDIN, 0)
        .closes(5000, STDOUT, 12);
    scenario.stream(5000, STDERR, edge::SERVER_CLOSE, |r| {
        r.unread = 7;
        r.counters.written = 7;
    });
    scenario.leaves().tick();
    scenario
}

fn json(scenario: &Scenario, all: bool) -> Vec<Value> {
    scenario
        .lines(true, all)
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn types(lines: &[Value]) -> Vec<String> {
    let name = |line: &Value| {
        let [kind, finding, state] =
            ["type", "kind", "state"].map(|key| line[key].as_str().unwrap_or(""));
        [kind, finding, state].join(" ").trim_end().to_owned()
    };
    lines.iter().map(name).collect()
}

#[test]
fn without_all_only_what_matters_is_told() {
    assert_eq!(
        types(&json(&eventful(), false)),
        [
            "started",
            "finding orphaned open",
            "finding truncated open",
            "finding orphaned resolved",
            "session_closed",
        ]
    );
}

#[test]
fn with_all_every_update_is_told() {
    assert_eq!(
        types(&json(&eventful(), true)),
        [
            "started",
            "process_exec",
            "session_opened",
            "process_exec",
            "process_exit",
            "finding orphaned open",
            "process_exit",
            "finding truncated open",
            "finding orphaned resolved",
            "session_closed",
        ]
    );
}

#[test]
fn every_object_has_type_schema_time_and_host() {
    for line in json(&eventful(), true) {
        assert!(line["type"].is_string());
        assert_eq!(line["schema"], 1);
        assert_eq!(line["host"], "bastion");
        let time = line["time"].as_str().unwrap();
        assert!(
            time.ends_with('Z') && time.len() == "2023-11-14T22:13:30.000000000Z".len(),
            "{time}"
        );
    }
}

#[test]
fn started_is_as_the_contract_says() {
    assert_eq!(
        json(&eventful(), false)[0],
        json!({
            "type": "started", "schema": 1, "time": "2023-11-14T22:13:30.000000000Z", "host": "bastion",
            "backend": "fentry", "kernel": "6.12.0", "tracer_pid": 1, "servers": ["sshd", "sshd-session"],
            "grace_ns": 1_000_000_000,
        })
    );
}

fn session(exit: Value) -> Value {
    json!({
        "id": "5000-3uw", "user": "alice", "uid": 1000, "peer": "10.0.0.5:51234", "local": "10.0.0.1:22",
        "server": {"exe": "sshd-session", "pid": 4700, "owner": null}, "command": "bash -c 'sleep 20 &'",
        "leader": {"pid": 5000, "exit": exit},
    })
}

#[test]
fn findings_are_as_the_contract_says() {
    let lines = json(&eventful(), false);
    assert_eq!(
        lines[1],
        json!({
            "type": "finding", "schema": 1, "time": "2023-11-14T22:13:32.205000000Z", "host": "bastion",
            "state": "open", "kind": "orphaned", "session": session(json!({"code": 0})), "stream": "stdout",
            "bytes": 0, "exact": true, "cause": null,
            "holders": [{
                "pid": 5001, "ns_pid": 5001, "start": "2023-11-14T22:13:25.001000000Z", "uid": 1000, "comm": "sleep",
                "argv": ["sleep", "20"], "fds": [1, 2], "sockets": [], "rings": [], "shared_with": [],
                "streams": ["stdout", "stderr"], "path": ["bash 5000", "sleep 5001"], "inherited": true,
                "sender": null, "container": null,
            }],
            "margin_ns": null,
            "message": lines[1]["message"], "fix": "sleep 20 </dev/null >sleep.log 2>&1 &",
            "fix_now": "kill 5001", "fix_warning": "ends sleep",
            "fix_next": "sleep 20 </dev/null >sleep.log 2>&1 &", "fix_note": null,
        })
    );
    let loss = &lines[2];
    assert_eq!(
        [
            &loss["stream"],
            &loss["bytes"],
            &loss["exact"],
            &loss["cause"],
            &loss["holders"]
        ],
        [
            &json!("stderr"),
            &json!(7),
            &json!(true),
            &json!("server_closed_early"),
            &json!([])
        ]
    );
}

#[test]
fn session_closed_is_as_the_contract_says() {
    let lines = json(&eventful(), false);
    let stream = |name: &str, object: &str, written: u64, read: u64| {
        json!({
            "stream": name, "object": object, "verdict": "clean", "cause": null, "bytes": null, "written": written,
            "read": read, "unread": 0, "exact": true, "margin_ns": null, "note": null,
        })
    };
    let mut stdout = stream("stdout", "pipe:[50001]", 12, 12);
    stdout["margin_ns"] = lines[4]["streams"][1]["margin_ns"].clone();
    let mut stderr = stream("stderr", "pipe:[50002]", 7, 0);
    for (key, value) in [
        ("verdict", json!("truncated")),
        ("cause", json!("server_closed_early")),
        ("bytes", json!(7)),
        ("unread", json!(7)),
    ] {
        stderr[key] = value;
    }
    assert_eq!(
        lines[4],
        json!({
            "type": "session_closed", "schema": 1, "time": "2023-11-14T22:13:32.305000000Z", "host": "bastion",
            "session": session(json!({"code": 0})), "verdict": "truncated", "gap": false, "gap_reasons": [],
            "opened": "2023-11-14T22:13:30.005000000Z", "duration_ns": 2_300_000_000u64,
            "command_exited": "2023-11-14T22:13:31.205000000Z", "command_running": false,
            "findings": [
                {"kind": "truncated", "cause": "server_closed_early"},
                {"kind": "orphaned", "cause": null},
            ],
            "streams": [stream("stdin", "pipe:[50000]", 0, 0), stdout, stderr],
            "had": [{
                "kind": "orphaned", "cause": null, "stream": null, "opened": "2023-11-14T22:13:31.205000000Z",
                "resolved": "2023-11-14T22:13:32.305000000Z", "duration_ns": 1_100_000_000u64,
            }],
            "connection": {"queued": 0, "sent": 0, "acked": 0},
        })
    );
}

#[test]
fn people_read_lines() {
    let lines = eventful().lines(false, false);
    assert_eq!(
        lines,
        [
            "22:13:30.000 started   bastion on Linux 6.12.0, fentry backend; watching sshd, sshd-session; times are UTC",
            "22:13:32.205 ORPHANED  session 5000 (alice from 10.0.0.5) `bash -c 'sleep 20 &'` exited 0 at 22:13:31, but the connection waits: sleep pid 5001 still holds its stdout and stderr (fds 1, 2), inherited from bash 5000",
            "                       holder sleep[5001] stdout and stderr (fds 1, 2) path bash 5000 → sleep 5001",
            "                       now (ends sleep): kill 5001",
            "                       next time: sleep 20 </dev/null >sleep.log 2>&1 &",
            "22:13:32.305 TRUNCATED session 5000 (alice from 10.0.0.5) `bash -c 'sleep 20 &'`: the server closed stderr 1.1 s after reaping the command with 7 B unread: at least that much never reached the client, though it saw exit status 0",
            "                       advice: sshd-session must read to end-of-file before it closes; until it does, let the command end with `; sleep 1`",
            "22:13:32.305 released  session 5000 (alice from 10.0.0.5): sleep pid 5001 let go of its stdout and stderr (fds 1, 2) 1.1 s after the command's end",
            "22:13:32.305 closed    session 5000 alice from 10.0.0.5 `bash -c 'sleep 20 &'` exited 0 after 1.2 s: truncated, was orphaned 1.1 s (stdout 12 B, stderr 7 B, 7 B lost: server_closed_early)",
        ]
    );
}

#[test]
fn nothing_hostile_reaches_a_terminal_or_breaks_json() {
    let evil = "\u{1b}]0;x\u{7}\n\u{202e}\u{9b}2J\u{2028}";
    let mut scenario = Scenario::exact();
    scenario
        .session(5000)
        .exec(5000, 5000, 4700, &["bash", "-c", evil])
        .tick()
        .spawn(5000, 5000, 5001, &[evil, evil]);
    scenario
        .leader_exits(5000, 0, stdout_has(3, 3))
        .run(1100, |scenario| {
            scenario
                .server_holds(5000)
                .holds(5000, 5001, "\u{1b}[2J", &[(1, 1)]);
        });
    scenario.stream(5000, STDOUT, edge::SERVER_CLOSE, |r| r.unread = 3);
    scenario.closes(5000, STDIN, 0).closes(5000, STDERR, 0);
    scenario.leaves().tick();
    assert_eq!(scenario.closed().len(), 1);
    for json in [false, true] {
        for line in scenario.lines(json, true) {
            let bad = line
                .chars()
                .find(|c| c.is_control() || "\u{202e}\u{2028}".contains(*c));
            assert_eq!(bad, None, "{line:?}");
            if json {
                assert!(serde_json::from_str::<Value>(&line).is_ok());
            }
        }
    }
}

#[test]
fn a_verdict_that_was_long_in_coming_says_when_the_session_closed() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "sleep 400 &")
        .spawn(5000, 5000, 5001, &["sleep", "400"])
        .leader_exits(5000, 0, empty())
        .closes(5000, STDIN, 0)
        .closes(5000, STDERR, 0);
    scenario
        .stream(5000, STDOUT, edge::SERVER_CLOSE, |r| r.writers = 1)
        .tick();
    // A write of the job's may yet fail.
    scenario.idle(31_000);
    let closed = scenario.end();
    assert!(closed.known - closed.time > 29_000_000_000, "{closed:?}");
    let lines = scenario.lines(false, false);
    let line = lines.last().expect("its last word");
    let (at, rest) = line.split_once(" closed ").expect("a closed session");
    let (_, then) = rest.split_once(", closed at ").expect(line);
    let second = |text: &str| text[6..8].parse::<u64>().expect("seconds");
    let later = (second(at) + 60 - second(then)) % 60;
    assert!((30..=31).contains(&later), "{later} s later: {line}");
    // For programs `time` is when it closed.
    let [.., last] = &json(&scenario, false)[..] else {
        panic!("no lines")
    };
    let time = last["time"].as_str().expect("a time");
    assert_eq!(time[11..19], then[..8], "{last}");
}
