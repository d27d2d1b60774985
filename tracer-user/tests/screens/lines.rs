//! Lines on a terminal and in a pipe, and the columns of a narrow terminal.

use std::process::Command;

use super::{golden, terminal::Terminal};

/// Runs a command that prints lines on a terminal with 80 columns: the screen, and what was written.
fn lines_of(args: &[&str], set: &[(&str, &str)]) -> (String, Vec<u8>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastbyte"));
    command
        .args(args)
        .env_remove("NO_COLOR")
        .env("TERM", "xterm-256color")
        .env("TZ", "UTC")
        .envs(set.iter().copied());
    let mut terminal = Terminal::run(&command, (80, 200));
    terminal.shows("closed");
    terminal.rests();
    let written = terminal.written.clone();
    (terminal.text(), written)
}

#[test]
fn lines_on_a_terminal_are_coloured_and_broken_between_words() {
    let file = golden("truncated");
    let (text, written) = lines_of(&["replay", &file], &[]);
    let written = String::from_utf8(written).expect("UTF-8");
    assert!(
        written.contains("\u{1b}[1m\u{1b}[31mTRUNCATED\u{1b}[0m"),
        "{written:?}"
    );
    let mut wrapped = 0;
    for line in text
        .lines()
        .filter(|line| !line.starts_with(|c: char| c.is_ascii_digit()))
    {
        let indent = line.len() - line.trim_start().len();
        assert!(indent >= 23, "under its text: {line}");
        wrapped += 1;
    }
    assert!(wrapped > 3, "{text}");
    assert!(text.contains(" KiB unread"), "{text}");

    let (_, plain) = lines_of(&["replay", &file], &[("NO_COLOR", "1")]);
    assert!(
        !plain.contains(&0x1b),
        "{}",
        String::from_utf8_lossy(&plain)
    );
}

#[test]
fn lines_in_a_pipe_are_whole_and_plain_and_exact_on_request() {
    let file = golden("truncated");
    let piped = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_lastbyte"))
            .args(["replay", &file])
            .args(more)
            .env("COLUMNS", "40")
            .output()
            .expect("the binary runs");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let text = piped(&[]);
    assert!(
        !text.contains('\u{1b}') && text.contains(" KiB unread"),
        "{text}"
    );
    assert!(
        text.lines().any(|line| line.len() > 120),
        "nothing is broken"
    );
    let exact = piped(&["--bytes"]);
    assert!(
        !exact.contains("KiB") && exact.contains(" B unread"),
        "{exact}"
    );
}

#[test]
fn a_command_has_20_columns_and_its_pid_on_a_narrow_terminal() {
    for columns in [80, 60] {
        let file = golden("orphaned");
        let args = ["top", "--replay", &file, "--speed", "1000"];
        let mut terminal = Terminal::lastbyte(&args, (columns, 24));
        terminal.shows("closed");
        let text = terminal.text();
        let head = text
            .lines()
            .find(|line| line.contains("COMMAND"))
            .expect("a head");
        let at = head.find("COMMAND").expect("it has one");
        let rest = &head[at + "COMMAND".len()..];
        let cells = "COMMAND".len() + rest.len() - rest.trim_start().len();
        assert!(cells > 20, "{columns} columns: {head}");
        assert!(head.contains("PID"), "{head}");
        let has_pid = |line: &str| line.split_whitespace().any(|it| it.parse::<u32>().is_ok());
        let row = text.lines().find(|line| line.contains("closed"));
        assert!(row.is_some_and(has_pid), "{text}");
    }
}
