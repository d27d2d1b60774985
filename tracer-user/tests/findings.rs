//! Past findings and troubles of sessions can be listed: the real binary, with recordings.

use std::{path::Path, process::Command};

use serde_json::Value;

fn recording(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    path.join(name).with_extension("rec").display().to_string()
}

/// Runs it and returns stdout and stderr.
#[track_caller]
fn says(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_lastbyte"))
        .args(args)
        .env("TZ", "UTC")
        .output()
        .expect("the binary runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    String::from_utf8(output.stdout).expect("UTF-8") + &stderr
}

fn objects(args: &[&str]) -> Vec<Value> {
    let lines = says(&[args, &["--json"]].concat());
    let object = |line| serde_json::from_str(line).expect("JSON");
    lines.lines().map(object).collect()
}

fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of[key].as_str().unwrap_or_else(|| panic!("{key} of {of}"))
}

fn time(of: &Value, key: &str) -> jiff::Timestamp {
    text(of, key).parse().expect("RFC 3339")
}

#[test]
fn a_closed_session_names_its_past_troubles() {
    let file = recording("orphaned");
    let closed = objects(&["replay", &file]);
    let closed = closed.iter().filter(|it| it["type"] == "session_closed");
    let mut seen = 0;
    for it in closed {
        let [had] = &it["had"].as_array().expect("a list")[..] else {
            panic!("it was orphaned once: {it}");
        };
        assert_eq!(had["kind"], "orphaned");
        let lasted = time(had, "resolved").duration_since(time(had, "opened"));
        assert_eq!(had["duration_ns"], lasted.as_nanos() as u64);
        // Counted from the command's exit, so the grace period is included.
        assert!(lasted > jiff::SignedDuration::from_millis(1400), "{had}");
        seen += 1;
    }
    assert!(seen > 0);
    let lines = says(&["replay", &file]);
    assert!(lines.contains(": clean, was orphaned 2."), "{lines}");
    // A session without troubles has none.
    for it in objects(&["replay", &recording("ordinary")]) {
        assert!(it["type"] != "session_closed" || it["had"] == Value::Array(Vec::new()));
    }
}

#[test]
fn ls_finds_past_troubles() {
    let (file, other) = (recording("orphaned"), recording("truncated"));
    let all = objects(&["ls", "--file", &file]);
    assert!(!all.is_empty());
    assert_eq!(objects(&["ls", "--had", "orphaned", "--file", &file]), all);
    assert!(all.iter().all(|it| it["state"] == "clean"));
    assert!(all.iter().all(|it| it["had"][0]["kind"] == "orphaned"));
    assert!(objects(&["ls", "--had", "stalled", "--file", &file]).is_empty());
    assert!(objects(&["ls", "--had", "orphaned", "--file", &other]).is_empty());
    let lost = objects(&["ls", "--had", "truncated", "--file", &other]);
    assert!(!lost.is_empty());
    assert!(lost.iter().all(|it| it["state"] == "truncated"), "{lost:?}");
    let table = says(&["ls", "--file", &file]);
    assert!(table.contains("clean, was orphaned 2."), "{table}");
    assert_eq!(
        says(&["ls", "--had", "orphaned", "--file", &other]),
        "no sessions match: ever orphaned\n"
    );
}

#[test]
fn findings_are_listed_once_each() {
    let file = recording("orphaned");
    let found = objects(&["findings", "--file", &file]);
    let sessions = objects(&["ls", "--file", &file]);
    assert_eq!(found.len(), sessions.len(), "{found:?}");
    // Findings come in their order, sessions with the newest first.
    for (it, session) in found.iter().zip(sessions.iter().rev()) {
        assert_eq!(it["type"], "finding");
        assert_eq!(it["state"], "resolved");
        assert_eq!(it["name"], session["name"]);
        assert_eq!(it["opened"], session["had"][0]["opened"]);
        assert_eq!(it["duration_ns"], session["had"][0]["duration_ns"]);
        // The message is the original one, not that of the resolution.
        assert!(text(it, "message").contains("still hold"), "{it}");
    }
    let table = says(&["findings", "--file", &file]);
    assert_eq!(table.lines().count(), found.len() + 1, "{table}");
    assert!(
        table.contains("orphaned") && table.contains("sleep"),
        "{table}"
    );
    let newest = objects(&["findings", "-n", "1", "--file", &file]);
    assert_eq!(newest[..], found[found.len() - 1..]);
}

#[test]
fn findings_can_be_filtered() {
    let (file, other) = (recording("orphaned"), recording("truncated"));
    let found = objects(&["findings", "--file", &file]);
    let first = &found[0];
    let ms = jiff::SignedDuration::from_millis(1);
    let (opened, resolved) = (time(first, "opened"), time(first, "resolved"));
    let with = |args: &[&str]| objects(&[&["findings", "--file", &file], args].concat());
    let user = text(&first["session"], "user");
    let (none, all) = (Vec::<Value>::new(), &found);
    for (args, wanted) in [
        (["--kind", "orphaned"], all),
        (["--kind", "truncated"], &none),
        (["--user", user], all),
        (["--user", "nobody"], &none),
        (["--peer", "127.0.0.1"], all),
        (["--peer", "10.9.9.9"], &none),
        (["--command", "setsid"], &vec![found[1].clone()]),
        (
            ["--since", &(opened + ms).to_string()],
            &found[1..].to_vec(),
        ),
        (
            ["--until", &(opened + ms).to_string()],
            &found[..1].to_vec(),
        ),
        (["--at", &(opened + ms).to_string()], &found[..1].to_vec()),
        (["--at", &(resolved + ms).to_string()], &none),
        (["--at", &(opened - ms).to_string()], &none),
    ] {
        assert_eq!(&with(&args), wanted, "{args:?}");
    }
    assert_eq!(
        says(&["findings", "--kind", "stalled", "--file", &file]),
        "no findings match: kind stalled\n"
    );
    let lost = objects(&["findings", "--file", &other]);
    assert!(!lost.is_empty());
    for it in &lost {
        assert_eq!(it["kind"], "truncated");
        assert_eq!(it["resolved"], Value::Null);
    }
}

#[test]
fn without_a_daemon_the_error_says_what_to_do() {
    let output = Command::new(env!("CARGO_BIN_EXE_lastbyte"))
        .args(["findings", "--socket", "/no/such/socket"])
        .output()
        .expect("the binary runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("--file RECORDING"), "{stderr}");
}
