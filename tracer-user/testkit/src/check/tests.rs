//! What the comparison finds, on lines as the tracer prints them.

use std::collections::BTreeSet;

use super::window;
use crate::event::Event;
use crate::expect::{Bytes, Expect, Holders, Stream, Who};
use crate::world::Server;

const MARKER: &str = "lb-0000001-000001";

/// A line about the one session of these tests.
fn line(rest: &str) -> Event {
    let text = format!(
        r#"{{"schema":1,"time":"2026-01-01T00:00:00.000000000Z","host":"h",
        "session":{{"id":"7-a","user":"lbtest","uid":1000,"peer":"127.0.0.1:999","local":null,
        "server":{{"exe":"sshd","pid":6}},"command":"bash -c ': {MARKER}; cat big'",
        "leader":{{"pid":7,"exit":{{"code":0}}}}}},{rest}}}"#
    );
    Event::parse(text.replace('\n', " ")).expect("a line as the tracer prints it")
}

fn opened() -> Event {
    line(r#""type":"session_opened","preexisting":false"#)
}

fn truncated(bytes: u64, exact: bool) -> Event {
    line(&format!(
        r#""type":"finding","state":"open","kind":"truncated","stream":"stdout","bytes":{bytes},
        "exact":{exact},"cause":"server_closed_early","holders":[]"#
    ))
}

fn orphaned(state: &str, holders: &str) -> Event {
    line(&format!(
        r#""type":"finding","state":"{state}","kind":"orphaned","stream":"stdout","holders":[{holders}]"#
    ))
}

fn closed(verdict: &str, stdout: &str) -> Event {
    line(&format!(
        r#""type":"session_closed","verdict":"{verdict}","gap":false,"streams":[{{"stream":"stdout",{stdout},
        "written":100,"read":80,"unread":20,"exact":true}}]"#
    ))
}

fn closed_clean() -> Event {
    closed("clean", r#""verdict":"clean","cause":null"#)
}

fn closed_cut() -> Event {
    closed(
        "truncated",
        r#""verdict":"truncated","cause":"server_closed_early""#,
    )
}

fn clean() -> Expect {
    Expect::clean(Who::Marked(MARKER.to_owned()), Server::OpenSsh).exits(0)
}

fn cut(bytes: u64) -> Expect {
    clean().cut(
        Stream::Stdout,
        &["server_closed_early"],
        Bytes::Exactly(bytes),
    )
}

fn sleeper() -> Holders {
    [(9, BTreeSet::from([1, 2]))].into()
}

const SLEEPER: &str = r#"{"pid":9,"fds":[1,2],"path":["bash 7","sleep 9"]}"#;

#[track_caller]
fn agrees(events: &[Event], expect: Expect) {
    assert_eq!(window(events, &[expect]), Vec::<String>::new());
}

#[track_caller]
fn objects(events: &[Event], expects: &[Expect], to: &str) {
    let problems = window(events, expects);
    assert!(
        problems.iter().any(|problem| problem.contains(to)),
        "{to:?} is not among {problems:#?}"
    );
}

#[test]
fn a_clean_session_may_have_a_near_miss() {
    let near_miss =
        line(r#""type":"finding","state":"open","kind":"near_miss","stream":"stdout","bytes":3"#);
    agrees(&[opened(), near_miss, closed_clean()], clean());
}

#[test]
fn a_loss_agrees_when_it_is_exact_and_equal() {
    agrees(&[opened(), truncated(20, true), closed_cut()], cut(20));
    objects(
        &[opened(), truncated(21, true), closed_cut()],
        &[cut(20)],
        "Some(21) B",
    );
    objects(
        &[opened(), truncated(20, false), closed_cut()],
        &[cut(20)],
        "exact false",
    );
}

#[test]
fn a_loss_must_be_reported_and_only_a_loss() {
    objects(&[opened(), closed_cut()], &[cut(20)], "loss not reported");
    objects(&[opened(), closed_clean()], &[cut(20)], "stdout is clean");
    objects(
        &[opened(), truncated(20, true), closed_cut()],
        &[clean()],
        "nothing was lost",
    );
}

#[test]
fn the_session_verdict_follows_from_its_streams() {
    let inconsistent = closed(
        "clean",
        r#""verdict":"truncated","cause":"server_closed_early""#,
    );
    objects(
        &[opened(), truncated(20, true), inconsistent],
        &[cut(20)],
        "does not follow",
    );
}

#[test]
fn byte_counts_are_compared() {
    agrees(
        &[opened(), closed_clean()],
        clean().counts(Stream::Stdout, Some(100), Some(80)),
    );
    objects(
        &[opened(), closed_clean()],
        &[clean().counts(Stream::Stdout, Some(100), Some(100))],
        "read Some(80)",
    );
}

#[test]
fn nothing_follows_the_last_word() {
    objects(
        &[opened(), closed_clean(), truncated(20, true)],
        &[cut(20)],
        "after session_closed",
    );
    objects(
        &[opened(), closed_clean(), closed_clean()],
        &[clean()],
        "closed 2 times",
    );
    objects(&[opened()], &[clean()], "never closed");
}

#[test]
fn sessions_must_be_the_expected_ones() {
    objects(&[opened(), closed_clean()], &[], "unexpected session 7-a");
    objects(&[], &[clean()], "no session for");
    agrees(
        &[opened(), closed_clean()],
        Expect::clean(Who::Unmarked, Server::OpenSshInternal),
    );
}

#[test]
fn holders_are_compared_by_pid_and_descriptors() {
    let held = clean().held_by(sleeper());
    let resolved = orphaned("resolved", SLEEPER);
    agrees(
        &[
            opened(),
            orphaned("open", SLEEPER),
            resolved.clone(),
            closed_clean(),
        ],
        held.clone(),
    );
    let stdout_only = SLEEPER.replace("[1,2]", "[1]");
    objects(
        &[
            opened(),
            orphaned("open", &stdout_only),
            resolved.clone(),
            closed_clean(),
        ],
        std::slice::from_ref(&held),
        "holders reported",
    );
    let stranger = format!("{SLEEPER},{}", SLEEPER.replace(":9,", ":10,"));
    objects(
        &[
            opened(),
            orphaned("open", &stranger),
            resolved,
            closed_clean(),
        ],
        std::slice::from_ref(&held),
        "pid 10 is called a holder",
    );
    objects(
        &[opened(), orphaned("open", SLEEPER), closed_clean()],
        &[held],
        "ends in state",
    );
    objects(
        &[opened(), orphaned("open", SLEEPER), closed_clean()],
        &[clean()],
        "unexpected orphaned",
    );
}

#[test]
fn gaps_are_problems() {
    let gap = Event::parse(r#"{"type":"gap","reason":"lost_records","lost":3}"#.to_owned())
        .expect("a gap");
    objects(&[opened(), gap, closed_clean()], &[clean()], "gap: ");
}

#[test]
fn the_path_of_a_holder_is_read() {
    assert_eq!(orphaned("open", SLEEPER).path_of(9), [7, 9]);
}

#[test]
fn where_evidence_may_be_lost_a_known_loss_still_counts() {
    let closed = || {
        line(
            r#""type":"session_closed","verdict":"truncated","gap":true,"streams":[
            {"stream":"stdout","verdict":"truncated","cause":"server_closed_early","written":100,"read":80,
            "unread":20,"exact":true},{"stream":"stderr","verdict":"unknown","cause":null,"written":0,"read":0,
            "unread":0,"exact":false}]"#,
        )
    };
    let told = [opened(), truncated(20, true), closed()];
    agrees(&told, cut(20).lacking());
    objects(&told, &[cut(21).lacking()], "Some(20) B");
    objects(&told, &[cut(20)], "gap on a session");
}
