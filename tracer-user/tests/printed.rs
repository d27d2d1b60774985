//! What the binary prints for people and programs, of recordings and of itself.

use std::{path::PathBuf, process::Command};

use serde_json::Value;
use unicode_width::UnicodeWidthStr as _;

fn printed(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_lastbyte"))
        .args(args)
        .env("COLUMNS", "200")
        .output()
        .expect("the binary runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn recording(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    folder.join(name).display().to_string()
}

fn json(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn every_help_fits_80_columns() {
    let commands = [
        "",
        "top",
        "watch",
        "ls",
        "show",
        "explain",
        "why",
        "doctor",
        "record",
        "replay",
        "daemon",
        "config",
        "completions",
    ];
    for command in commands {
        for help in ["-h", "--help"] {
            let args: Vec<&str> = [command, help]
                .into_iter()
                .filter(|it| !it.is_empty())
                .collect();
            let text = printed(&args);
            let widest = text.lines().max_by_key(|line| line.width()).unwrap_or("");
            assert!(widest.width() <= 80, "{command} {help}: {widest}");
        }
    }
}

#[test]
fn a_closed_session_says_how_long_it_was_and_when_its_command_ended() {
    let lines = json(&printed(&["replay", "--json", &recording("orphaned.rec")]));
    let closed = lines
        .iter()
        .find(|line| line["type"] == "session_closed")
        .expect("a closed session");
    let at = |key: &str| {
        let text = closed[key].as_str().expect("a time");
        text.parse::<jiff::Timestamp>()
            .expect("a time")
            .as_nanosecond()
    };
    assert_eq!(
        i128::from(closed["duration_ns"].as_u64().expect("a duration")),
        at("time") - at("opened")
    );
    assert!((at("opened")..=at("time")).contains(&at("command_exited")));
    assert_eq!(closed["command_running"], false);
    assert!(
        closed["findings"]
            .as_array()
            .expect("findings")
            .contains(&serde_json::json!({"kind": "orphaned", "cause": null})),
        "{closed}"
    );
}

#[test]
fn an_explanation_has_its_parts_and_not_only_sentences() {
    let file = recording("orphaned.rec");
    let listed = json(&printed(&["ls", "--json", "--file", &file]));
    let name = listed[0]["name"].as_str().expect("a name");
    let lines = json(&printed(&["explain", "--json", name, "--file", &file]));
    let [line] = &lines[..] else {
        panic!("one object: {lines:?}")
    };
    assert_eq!(line["type"], "explanation");
    assert_eq!(line["schema"], 1);
    assert!(line["time"].is_string());
    assert_eq!(line["session"]["leader"], listed[0]["session"]["leader"]);
    assert_eq!(line["session_id"], line["session"]["id"]);
    assert!(line["text"].as_array().is_some_and(|text| text.len() > 3));
    assert_eq!(line["closed"]["type"], "session_closed");
    assert_eq!(line["closed"]["streams"][1]["stream"], "stdout");
    let orphaned = line["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .find(|found| found["kind"] == "orphaned")
        .expect("the one that was orphaned");
    assert_eq!(orphaned["state"], "resolved");
    assert!(!orphaned["holders"].as_array().expect("holders").is_empty());
    assert!(orphaned["fix"].is_string());
}

#[test]
fn doctor_says_what_its_object_is() {
    let output = Command::new(env!("CARGO_BIN_EXE_lastbyte"))
        .args(["doctor", "--json", "--no-daemon"])
        .output()
        .expect("the binary runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let line = &json(&text)[0];
    assert_eq!(line["type"], "doctor");
    assert_eq!(line["schema"], 1);
    assert!(line["time"].is_string() && line["host"].is_string());
    assert!(line["backends"].is_array());
}

/// A verdict may be known some time after the session closed: the line begins with the former.
#[test]
fn lines_begin_with_times_in_ascending_order() {
    for name in ["demo", "ordinary", "orphaned", "truncated"] {
        for all in [false, true] {
            let file = recording(&format!("{name}.rec"));
            let mut args = vec!["replay", file.as_str()];
            args.extend(all.then_some("--all"));
            let text = printed(&args);
            let times: Vec<&str> = text
                .lines()
                .filter(|line| !line.starts_with(' '))
                .map(|line| line.split(' ').next().unwrap_or(""))
                .collect();
            assert!(times.len() > 3, "{name}: {text}");
            assert!(times.is_sorted(), "{name} {args:?}: {text}");
        }
    }
}
