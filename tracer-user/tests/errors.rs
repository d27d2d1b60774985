//! Bad input gets one clear sentence on stderr, and the exit status that the README promises.

#[path = "support/skipped.rs"]
mod skipped;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Output},
};

use skipped::skipped;

fn lastbyte(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lastbyte"))
        .args(args)
        .output()
        .expect("the binary runs")
}

/// A copy of the binary that every user can execute: a home directory may hide the binary itself.
struct Shared(tempfile::TempDir);

impl Shared {
    fn copy() -> Self {
        let directory = tempfile::tempdir().expect("a directory for the copy");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("it is ours");
        let this = Self(directory);
        fs::copy(env!("CARGO_BIN_EXE_lastbyte"), this.binary()).expect("room for the copy");
        this
    }

    fn binary(&self) -> PathBuf {
        self.0.path().join("lastbyte")
    }

    /// Runs the copy without any privileges, even when root runs the tests.
    fn unprivileged(&self, args: &[&str]) -> Output {
        if !rustix::process::geteuid().is_root() {
            return lastbyte(args);
        }
        Command::new("setpriv")
            .args(["--reuid=65534", "--clear-groups", "--bounding-set=-all"])
            .arg(self.binary())
            .args(args)
            .output()
            .expect("setpriv (util-linux) runs")
    }
}

fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, bytes).expect("a file in target/tmp");
    path
}

#[track_caller]
fn fails(output: &Output, status: i32, says: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    assert!(stderr.contains(says), "{stderr}");
    if status == 1 {
        assert_eq!(stderr.lines().count(), 1, "one sentence: {stderr}");
    }
}

#[test]
fn tracing_without_privileges() {
    let lastbyte = Shared::copy();
    let output = lastbyte.unprivileged(&["--version"]);
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        let why = format!("cannot run without privileges: {}", error.trim_end());
        return skipped("tracing_without_privileges", &why);
    }
    fails(
        &lastbyte.unprivileged(&["watch"]),
        1,
        "needs root (or CAP_BPF and CAP_PERFMON)",
    );
    fails(&lastbyte.unprivileged(&["why", "1"]), 1, "run it with sudo");
}

#[test]
fn usage_is_told_from_failure() {
    fails(
        &lastbyte(&["watch", "--backend", "bogus"]),
        2,
        "possible values",
    );
    fails(&lastbyte(&["watch", "--ring", "5000"]), 2, "power of two");
    fails(
        &lastbyte(&["watch", "--grace", "soon"]),
        2,
        "500ms, 10s or 1m30s",
    );
    fails(&lastbyte(&["replay"]), 2, "<FILE>");
    fails(
        &lastbyte(&["why", "x"]),
        1,
        "neither a pid nor a session id",
    );
}

#[test]
fn without_a_subcommand_the_named_daemon_is_asked() {
    let output = Command::new(env!("CARGO_BIN_EXE_lastbyte"))
        .env("LASTBYTE_SOCKET", "/no/such/socket")
        .output()
        .expect("the binary runs");
    fails(&output, 1, "/no/such/socket");
}

#[test]
fn unpinning_says_what_it_did() {
    let config = file("unpin.toml", b"[tracing]\npins = \"/no/such/pins\"\n");
    let output = lastbyte(&["daemon", "--unpin", "--config", &config.to_string_lossy()]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "nothing is pinned in /no/such/pins\n"
    );
}

#[test]
fn what_is_not_a_recording() {
    let other = file("other", b"something else entirely, and long enough");
    fails(
        &lastbyte(&["replay", &other.to_string_lossy()]),
        1,
        "not a lastbyte recording",
    );
    fails(
        &lastbyte(&["replay", "/no/such/file"]),
        1,
        "/no/such/file: cannot be opened",
    );
}

#[test]
fn a_name_that_is_too_long_for_an_executable() {
    let long = "x".repeat(40);
    let output = lastbyte(&["doctor", "--server", &long]);
    // As root it is the name, otherwise the privileges: never a panic.
    assert_eq!(output.status.code(), Some(1));
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        stdout.contains("1 to 31 bytes") || stdout.contains("needs root"),
        "{stdout}"
    );
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let shell = format!(
        "{} completions bash | head -1; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_lastbyte")
    );
    let output = Command::new("bash")
        .args(["-c", &shell])
        .output()
        .expect("bash runs");
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_hook_whose_program_cannot_be_started_is_a_mistake() {
    let conf = |name: &str, command: &str| {
        let text = format!("[[hook]]\ncommand = [{command:?}]\n");
        file(name, text.as_bytes()).to_string_lossy().into_owned()
    };
    let check = |conf: &str| lastbyte(&["config", "check", conf]);
    fails(
        &check(&conf("absent.toml", "/no/such/program")),
        1,
        "hook.command: /no/such/program: No such file",
    );
    fails(&check(&conf("folder.toml", "/usr/bin")), 1, "is not a file");
    let plain = file("plain", b"#!/bin/sh\n");
    let plain = plain.to_string_lossy();
    fails(&check(&conf("plain.toml", &plain)), 1, "is not executable");
    let good = check(&conf("good.toml", "/bin/sh"));
    assert!(good.status.success(), "{good:?}");
}

#[test]
fn doctor_says_that_no_daemon_runs() {
    let args = ["doctor", "--socket", "/no/such/socket"];
    let text = String::from_utf8(lastbyte(&args).stdout).expect("text");
    let says = |what: &str| text.lines().any(|line| line.starts_with(what));
    assert!(
        says("daemon       not running: no daemon answers on /no/such/socket"),
        "{text}"
    );
    assert!(says("lockdown     "), "{text}");
    assert!(!text.contains("not observed"), "{text}");
    let json = lastbyte(&[&args[..], &["--json"]].concat()).stdout;
    let json = String::from_utf8(json).expect("text");
    assert!(
        json.contains("\"daemon_problem\":\"no daemon answers"),
        "{json}"
    );
}
