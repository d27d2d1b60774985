//! Times that people write and read are local ones: the real binary, with recordings and a `TZ`.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

/// An hour ahead of UTC, in summer too.
const ALGIERS: &str = "CET-1";

fn recording(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    path.join(name).with_extension("rec").display().to_string()
}

fn run(zone: &str, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lastbyte"))
        .args(args)
        .env("TZ", zone)
        .output()
        .expect("the binary runs")
}

#[track_caller]
fn text(zone: &str, args: &[&str]) -> String {
    let output = run(zone, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    String::from_utf8(output.stdout).expect("UTF-8") + &stderr
}

/// The sessions of the recording, oldest first, each with when it was open, ns since 1970.
fn sessions(args: &[&str]) -> Vec<(String, jiff::Timestamp, jiff::Timestamp)> {
    let recording = recording("orphaned");
    let args = [&["ls", "--json", "--file", &recording][..], args].concat();
    let parsed = |value: &Value| value.as_str().expect("a time").parse().expect("RFC 3339");
    let listed = text(ALGIERS, &args);
    let mut sessions: Vec<_> = listed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .map(|it| {
            let name = it["name"].as_str().expect("a name").to_owned();
            (name, parsed(&it["opened"]), parsed(&it["closed"]))
        })
        .collect();
    sessions.sort_by_key(|(_, opened, _)| *opened);
    sessions
}

fn names(args: &[&str]) -> Vec<String> {
    sessions(args).into_iter().map(|it| it.0).collect()
}

#[test]
fn every_way_to_write_a_time_selects_the_same() {
    let all = sessions(&[]);
    assert!(all.len() >= 2, "{all:?}");
    let names_of = |of: &[(String, jiff::Timestamp, jiff::Timestamp)]| -> Vec<String> {
        of.iter().map(|it| it.0.clone()).collect()
    };
    // Between the beginnings of the first and of the second.
    let middle = jiff::Timestamp::from_nanosecond(i128::midpoint(
        all[0].1.as_nanosecond(),
        all[1].1.as_nanosecond(),
    ))
    .expect("a time");
    let hour = jiff::SignedDuration::from_hours(1);
    let local = (middle + hour).to_string();
    let local = local.trim_end_matches('Z');
    for way in [&middle.to_string(), local, &local.replace('T', " ")] {
        assert_eq!(names(&["--since", way]), names_of(&all[1..]), "{way}");
        assert_eq!(names(&["--until", way]), names_of(&all[..1]), "{way}");
    }
    // An hour before all of them, and after: this test may take a while.
    for (at, after) in [(all[0].1 - hour, &all[..]), (all[0].1 + hour, &[])] {
        let s = jiff::Timestamp::now().duration_since(at).as_secs();
        let ways = [
            format!("{s}s ago"),
            format!("{s} seconds ago"),
            format!("{s}s"),
            format!("-{s}s"),
            format!("{}m ago", s / 60),
        ];
        for way in &ways {
            assert_eq!(names(&["--since", way]), names_of(after), "{way}");
        }
    }
    for way in [
        "now",
        "1 hour ago",
        "10m ago",
        "1d",
        "today",
        "yesterday",
        "yesterday 14:03",
    ] {
        let none: [&str; 0] = [];
        // Before the machine that made them is switched on again they are long past.
        if jiff::Timestamp::now().duration_since(all[0].1) > jiff::SignedDuration::from_hours(48) {
            assert_eq!(names(&["--since", way]), none, "{way}");
            assert_eq!(names(&["--until", way]), names_of(&all), "{way}");
        }
    }
}

#[test]
fn at_a_time_those_that_were_open_then() {
    for (name, opened, closed) in sessions(&[]) {
        let ms = jiff::SignedDuration::from_millis(1);
        let open_at = |at: jiff::Timestamp| names(&["--at", &at.to_string()]).contains(&name);
        assert!(!open_at(opened - ms), "{name} before {opened}");
        assert!(open_at(opened + ms), "{name} after {opened}");
        assert!(open_at(closed - ms), "{name} before {closed}");
        assert!(!open_at(closed + ms), "{name} after {closed}");
    }
}

#[test]
fn people_read_local_times_and_programs_utc() {
    let recording = recording("orphaned");
    let (name, opened, _) = sessions(&[]).remove(0);
    let hour = jiff::SignedDuration::from_hours(1);
    // `17:08:22` of `2026-11-24T17:08:22.279Z`.
    let of_day = |at: jiff::Timestamp| at.to_string()[11..19].to_owned();
    let (local, utc) = (of_day(opened + hour), of_day(opened));

    let table = text(ALGIERS, &["ls", "--file", &recording]);
    assert!(table.contains("OPENED (+01:00)"), "{table}");
    assert!(table.contains(&local) && !table.contains(&utc), "{table}");
    let table = text("UTC", &["ls", "--file", &recording]);
    assert!(table.contains("OPENED (UTC)"), "{table}");
    assert!(table.contains(&utc), "{table}");

    let lines = text(ALGIERS, &["replay", "--all", &recording]);
    let first = lines.lines().next().expect("lines");
    assert!(first.ends_with("times are +01:00"), "{first}");
    assert!(lines.contains(&format!("{local}.")), "{lines}");
    // Nor in the sentences.
    assert!(lines.contains("ORPHANED"), "{lines}");
    assert!(!lines.contains("UTC"), "{lines}");

    for command in ["show", "explain"] {
        let told = text(ALGIERS, &[command, &name, "--file", &recording]);
        assert!(told.contains(&format!("{local} +01:00")), "{told}");
        assert!(!told.contains("UTC") && !told.contains(&utc), "{told}");
    }

    let json = |zone| text(zone, &["replay", "--json", "--all", &recording]);
    assert_eq!(json(ALGIERS), json("UTC"));
    let explained = |zone| text(zone, &["explain", &name, "--json", "--file", &recording]);
    assert_eq!(explained(ALGIERS), explained("UTC"));
}

#[test]
fn what_is_no_time_is_refused() {
    for (args, says) in [
        (["--since", "soon"], "expected a time such as 14:03"),
        (["--until", "5"], "expected a time such as 14:03"),
        (
            ["--at", "2126-01-01"],
            "2126-01-01 00:00:00 +01:00 is in the future",
        ),
        (["--since", "2126-01-01T00:00Z"], "is in the future"),
    ] {
        let output = run(ALGIERS, &[&["ls"][..], &args].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
    }
    // What is to come is no mistake of an end.
    assert_eq!(names(&["--until", "2126-01-01"]), names(&[]));
}

#[test]
fn an_empty_list_says_what_was_looked_for() {
    let recording = recording("orphaned");
    let output = run(
        ALGIERS,
        &[
            "ls",
            "--file",
            &recording,
            "--user",
            "nobody",
            "--since",
            "2026-11-24 18:00",
        ],
    );
    assert!(output.status.success());
    assert!(output.stdout.is_empty());
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "no sessions match: user nobody, opened at 2026-11-24 18:00:00 +01:00 or later\n"
    );
}
