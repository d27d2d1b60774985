//! Recordings of real sessions, replayed: the very lines that the live run printed.
//!
//! `tests/golden/NAME.rec` was made by `lastbyte record NAME.rec --json --all > NAME.jsonl` while
//! the sessions of NAME ran. After a change of the ABI they are made anew by `make.sh` beside them.

use std::{fs, path::Path, process::Command};

#[test]
fn a_replay_prints_what_the_live_run_printed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut replayed = 0;
    for entry in fs::read_dir(&folder).expect("tests/golden") {
        let recording = entry.expect("an entry of tests/golden").path();
        if recording
            .extension()
            .is_none_or(|extension| extension != "rec")
        {
            continue;
        }
        let output = Command::new(env!("CARGO_BIN_EXE_lastbyte"))
            .args(["replay", "--json", "--all"])
            .arg(&recording)
            .output()
            .expect("the binary runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {stderr}", recording.display());
        let live = fs::read_to_string(recording.with_extension("jsonl")).expect("its lines");
        let replay = String::from_utf8(output.stdout).expect("JSON is UTF-8");
        for (number, (live, replay)) in live.lines().zip(replay.lines()).enumerate() {
            assert_eq!(live, replay, "{} line {}", recording.display(), number + 1);
        }
        assert_eq!(
            live.lines().count(),
            replay.lines().count(),
            "{}",
            recording.display()
        );
        replayed += 1;
    }
    assert!(
        replayed >= 2,
        "only {replayed} recordings in {}",
        folder.display()
    );
}

#[test]
fn commands_to_paste_parse_and_stand_alone() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut pasted = 0;
    for name in ["orphaned.rec", "demo.rec"] {
        let output = Command::new(env!("CARGO_BIN_EXE_lastbyte"))
            .args(["replay", "--json", "--all"])
            .arg(folder.join(name))
            .output()
            .expect("the binary runs");
        let lines = String::from_utf8(output.stdout).expect("JSON is UTF-8");
        for line in lines.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            for command in ["fix_now", "fix_next"].map(|key| &line[key]) {
                let Some(command) = command.as_str() else {
                    continue;
                };
                let parsed = Command::new("bash")
                    .args(["-n", "-c", command])
                    .status()
                    .expect("bash");
                assert!(parsed.success(), "{command}");
                assert!(!command.contains("***"), "{command}");
                pasted += 1;
            }
        }
    }
    assert!(pasted >= 4, "only {pasted} commands");
}
