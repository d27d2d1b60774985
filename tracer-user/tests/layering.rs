//! Dependencies point one way: `model` and `probe` know only the record ABI; `store`, `export` and
//! `tui` see what the model shows; `cli` ties them together. Within `tui`, what is known, what keys
//! mean and what is drawn are apart from the terminal.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A room, the rooms of this crate that it may look into, and what it must not name at all.
const RULES: &[(&str, &[&str], &[&str])] = &[
    (
        "model",
        &[],
        &[
            "std::fs",
            "std::io",
            "std::process",
            "std::time",
            "std::env",
            "std::thread",
            "std::os",
            "Instant",
            "SystemTime",
            "tokio",
            "aya",
            "libc",
            "rustix",
            "jiff",
            "unsafe ",
            "println!",
        ],
    ),
    ("probe", &[], &["jiff", "serde_json"]),
    ("store", &["model"], &["tokio", "aya", "unsafe "]),
    (
        "export",
        &["model"],
        &[
            "std::fs",
            "std::process",
            "std::time",
            "tokio",
            "aya",
            "libc",
            "unsafe ",
        ],
    ),
    (
        "tui",
        &["model", "export", "store"],
        &["aya", "libc", "jiff", "unsafe "],
    ),
    (
        "tui/state",
        &["model", "export", "tui"],
        &[
            "std::fs",
            "std::io",
            "std::process",
            "std::time",
            "std::env",
            "std::os",
            "Instant",
            "SystemTime",
            "tokio",
            "rustix",
            "ratatui",
            "println!",
        ],
    ),
    (
        "tui/view",
        &["model", "export", "tui"],
        &[
            "std::fs",
            "std::io",
            "std::process",
            "std::time",
            "std::env",
            "std::thread",
            "crossterm",
            "tokio",
            "rustix",
        ],
    ),
];

#[test]
fn every_room_keeps_to_its_own() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rooms: Vec<String> = fs::read_dir(&src)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    let mut problems = Vec::new();
    for (room, may_use, must_not_name) in RULES {
        for file in files(&src.join(room)) {
            let text = fs::read_to_string(&file).unwrap();
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or("");
                let at = format!(
                    "{}:{}",
                    file.strip_prefix(&src).unwrap().display(),
                    number + 1
                );
                for other in rooms
                    .iter()
                    .filter(|other| other != room && !may_use.contains(&other.as_str()))
                {
                    if code.contains(&format!("crate::{other}")) {
                        problems.push(format!("{at}: {room} must not know {other}"));
                    }
                }
                for name in must_not_name.iter().filter(|name| code.contains(**name)) {
                    problems.push(format!("{at}: {room} must not use {name}"));
                }
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

fn files(under: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(under).unwrap_or_else(|error| panic!("{}: {error}", under.display()))
    {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    assert!(!files.is_empty(), "no sources in {}", under.display());
    files
}
