//! The state, without a terminal.

use std::sync::Arc;

use super::*;
use crate::{
    model::{
        Closed, Cut, Finding, FindingBody, Fix, History, HolderView, LossCause, Opened,
        SessionView, Slot, State as Stage, StreamReport, Update, Verdict, Visible, WaitCause,
    },
    tui::{
        feed::Feed,
        keys::Command,
        source::{Replay, Source as _, TimelineRequests, channel},
    },
};

const MS: u64 = 1_000_000;

pub fn view(pid: u32) -> SessionView {
    SessionView {
        id: SessionId((u64::from(pid) << 22) | u64::from(pid)),
        user: Some(Visible::new(b"alice")),
        uid: Some(1000),
        peer: Some(([10, 0, 0, (pid % 250) as u8], 50_000).into()),
        local: None,
        server_exe: Visible::new(b"sshd-session"),
        server_owner: None,
        server_pid: 1,
        command: Some(Visible::new(format!("sleep {pid}").as_bytes())),
        leader_pid: pid,
        exit: None,
        exited: None,
        opened: u64::from(pid) * MS,
        preexisting: false,
    }
}

fn setup(live: bool) -> Setup {
    Setup {
        source: "test".to_owned(),
        live,
        allow_signals: true,
        keep: 100,
        begin: Begin::End,
        speed: 1.0,
        zone: Zone::default(),
    }
}

fn opened(pid: u32) -> Update {
    let session = Arc::new(view(pid));
    Update::SessionOpened(Opened {
        time: session.opened,
        session,
        had: History::default(),
    })
}

fn body(kind: Kind) -> FindingBody {
    let stream = Slot::Stdout;
    match kind {
        Kind::Truncated => FindingBody::Truncated {
            stream,
            lost: 10,
            cause: LossCause::ServerClosedEarly,
            margin_ns: None,
        },
        Kind::Orphaned => FindingBody::Orphaned {
            stream: Some(stream),
            written: 10,
            holders: Vec::new(),
        },
        Kind::Stalled => FindingBody::Stalled {
            stream,
            unread: 10,
            since: None,
        },
        Kind::Waiting => FindingBody::Waiting {
            cause: WaitCause::Forward,
            programs: Vec::new(),
        },
        Kind::NearMiss => FindingBody::NearMiss {
            stream,
            unread: 10,
            margin_ns: None,
        },
    }
}

fn finding(pid: u32, time: u64, kind: Kind, state: Stage) -> Update {
    Update::Finding(Finding {
        time,
        known: 0,
        state,
        session: Arc::new(view(pid)),
        body: body(kind),
        exact: true,
        message: format!("session {pid} is {}", kind.name()),
        fix: Fix {
            advice: Some("do better".to_owned()),
            ..Fix::default()
        },
        quiet: false,
    })
}

fn closed(pid: u32, time: u64, verdict: Verdict) -> Update {
    Update::SessionClosed(Closed {
        time,
        known: 0,
        session: Arc::new(view(pid)),
        verdict,
        gaps: Vec::new(),
        streams: vec![StreamReport {
            slot: Slot::Stdout,
            transport: "pipe".into(),
            object: 1,
            verdict,
            written: 4000,
            read: 4000,
            unread: 0,
            exact: true,
            margin_ns: None,
            note: None,
        }],
        carried: None,
        had: History::default(),
    })
}

/// Three sessions: one clean, one that was orphaned for a while, one that lost bytes.
fn three_sessions() -> State {
    let cut = Verdict::Truncated(Cut {
        bytes: 10,
        exact: true,
        cause: LossCause::ServerClosedEarly,
    });
    let mut state = State::new(setup(false));
    state.feed(Feed::Updates(vec![
        opened(1000),
        opened(2000),
        opened(3000),
        closed(1000, 4000 * MS, Verdict::Clean),
        finding(2000, 5000 * MS, Kind::Orphaned, Stage::Open),
        finding(3000, 6000 * MS, Kind::Truncated, Stage::Open),
        closed(3000, 6001 * MS, cut),
        finding(2000, 7000 * MS, Kind::Orphaned, Stage::Resolved),
        closed(2000, 8000 * MS, Verdict::Clean),
    ]));
    state.set_viewport(Viewport {
        page: 10,
        lines: 3,
        first: 0,
        top: 3,
    });
    state
}

fn listed(state: &State) -> Vec<u32> {
    let items = state.items();
    let ids = items.iter().filter_map(|item| match item {
        Item::Session(id) => Some(id.pid()),
        Item::Group { .. } => None,
    });
    ids.collect()
}

#[test]
fn every_moment_is_shown_as_it_was_known_then() {
    let mut state = three_sessions();
    let at = |state: &mut State, ms: u64| {
        state.clock.seek(ms * MS);
        let mut out: Vec<_> = listed(state)
            .into_iter()
            .map(|pid| {
                let row = &state.rows[&view(pid).id.0];
                let now = state.clock.now();
                (pid, row.condition(now), row.outcome(now))
            })
            .collect();
        out.sort_by_key(|it| it.0);
        out
    };
    assert_eq!(
        at(&mut state, 2500),
        [
            (1000, Condition::Running, Outcome::Open),
            (2000, Condition::Running, Outcome::Open)
        ]
    );
    assert_eq!(
        at(&mut state, 6000),
        [
            (1000, Condition::Closed, Outcome::Clean),
            (2000, Condition::Orphaned, Outcome::Open),
            (3000, Condition::Running, Outcome::Truncated)
        ]
    );
    assert_eq!(
        at(&mut state, 8000),
        [
            (1000, Condition::Closed, Outcome::Clean),
            (2000, Condition::Closed, Outcome::Clean),
            (3000, Condition::Closed, Outcome::Truncated)
        ]
    );
}

#[test]
fn sessions_in_trouble_come_first() {
    let mut state = three_sessions();
    state.clock.seek(5500 * MS);
    assert_eq!(listed(&state), [2000, 3000, 1000]);
    state.command(Command::Reverse);
    assert_eq!(listed(&state), [1000, 3000, 2000]);
}

#[test]
fn the_user_can_go_from_finding_to_finding() {
    let mut state = three_sessions();
    state.clock.rewind(false);
    state.command(Command::NextFinding);
    assert_eq!(state.clock.now(), 5000 * MS);
    assert_eq!(state.session(), Some(view(2000).id), "it is selected");
    state.command(Command::NextFinding);
    assert_eq!(state.clock.now(), 6000 * MS);
    state.command(Command::NextFinding);
    assert_eq!(state.clock.now(), 6000 * MS);
    assert_eq!(state.notice(), Some("no later finding"));
    state.command(Command::PreviousFinding);
    assert_eq!(state.clock.now(), 5000 * MS);
    state.command(Command::Latest);
    assert!(state.clock.is_latest());
}

#[test]
fn the_user_can_step_from_event_to_event() {
    let mut state = three_sessions();
    state.clock.rewind(false);
    let mut seen = vec![state.clock.now() / MS];
    for _ in 0..4 {
        state.command(Command::Step(1));
        seen.push(state.clock.now() / MS);
    }
    assert_eq!(seen, [1000, 2000, 3000, 4000, 5000]);
    state.command(Command::Step(-1));
    assert_eq!(state.clock.now(), 4000 * MS);
}

#[test]
fn a_finding_is_new_until_the_user_has_looked_at_it() {
    let mut state = three_sessions();
    assert_eq!(state.log.unread(u64::MAX), 2);
    state.command(Command::Show(View::Findings));
    assert_eq!(state.shown_findings().len(), 2);
    assert_eq!(state.session(), Some(view(3000).id), "the newest");
    state.command(Command::Move(1));
    assert_eq!(state.session(), Some(view(2000).id));
    assert_eq!(state.log.unread(u64::MAX), 1, "the other one");
    state.command(Command::NextKind);
    assert_eq!(state.kind, Some(Kind::Truncated));
    assert_eq!(state.shown_findings().len(), 1);
}

#[test]
fn a_filter_matches_user_command_and_state() {
    let mut state = three_sessions();
    for (filter, found) in [
        ("2000", 1),
        ("alice", 3),
        ("truncated", 1),
        ("ALICE clean", 2),
        ("bob", 0),
    ] {
        state.command(Command::Filter);
        state.command(Command::EraseAll);
        filter.chars().for_each(|c| {
            state.command(Command::Type(c));
        });
        assert_eq!(listed(&state).len(), found, "{filter}");
        assert_eq!(state.mode(), Mode::Typing);
        state.command(Command::Open);
        assert_eq!(state.mode(), Mode::Viewing);
    }
    state.command(Command::Back);
    assert_eq!(listed(&state).len(), 3);
}

#[test]
fn groups_have_counts() {
    let mut state = three_sessions();
    state.clock.seek(5500 * MS);
    state.command(Command::Group);
    let items = state.items();
    assert_eq!(
        items[0],
        Item::Group {
            name: "alice".to_owned(),
            sessions: 3,
            open: 2,
            attention: 1
        }
    );
    assert_eq!(items.len(), 4);
    // A heading cannot be selected.
    assert_eq!(state.selected_item(&items), Some(1));
    state.command(Command::Move(-1));
    assert_eq!(state.session(), Some(view(2000).id));
}

#[test]
fn the_selection_stays_with_its_session() {
    let mut state = three_sessions();
    state.command(Command::Bottom);
    let selected = state.session().unwrap();
    state.feed(Feed::Updates(vec![opened(9000)]));
    assert_eq!(state.session(), Some(selected));
    assert_eq!(state.take_request(), Some(Some(selected)));
    assert_eq!(state.take_request(), None, "asked once");
}

#[test]
fn a_limited_number_of_closed_sessions_is_kept() {
    let mut state = State::new(setup(true));
    for pid in 1..1000 {
        state.feed(Feed::Updates(vec![
            opened(pid),
            closed(pid, u64::from(pid + 1) * MS, Verdict::Clean),
        ]));
    }
    assert_eq!(state.rows.len(), 100);
    assert_eq!(state.host.ends(u64::MAX).clean, 999);
}

#[test]
fn nothing_is_drawn_while_nothing_changes() {
    let mut state = State::new(setup(true));
    state.feed(Feed::Phase(Phase::Live));
    state.advance(10_000 * MS);
    assert!(state.take_changed());
    assert_eq!(state.next_wake(), None, "no session is open");
    state.feed(Feed::Updates(vec![opened(9000)]));
    state.take_changed();
    assert_eq!(
        state.next_wake(),
        Some(11_000 * MS),
        "the age changes once a second"
    );
    state.advance(10_500 * MS);
    assert!(!state.take_changed());
    state.advance(11_000 * MS);
    assert!(state.take_changed());
    state.command(Command::Pause);
    state.take_changed();
    assert_eq!(
        state.next_wake(),
        None,
        "an age in the past does not change"
    );
}

#[test]
fn a_lost_connection_keeps_what_is_shown() {
    let mut state = three_sessions();
    state.command(Command::Open);
    let before = (state.view, state.session(), state.rows.len());
    state.feed(Feed::Phase(Phase::Lost("the daemon is gone".to_owned())));
    assert_eq!((state.view, state.session(), state.rows.len()), before);
    state.feed(Feed::Phase(Phase::Live));
    assert_eq!((state.view, state.session(), state.rows.len()), before);
}

#[test]
fn a_signal_needs_the_option_the_live_view_and_a_holder() {
    let mut state = three_sessions();
    state.setup.allow_signals = false;
    state.command(Command::Signal);
    assert!(state.notice().unwrap().contains("--allow-signals"));
    state.setup.allow_signals = true;
    state.command(Command::Signal);
    assert!(state.notice().unwrap().contains("recording"));
    assert_eq!(state.mode(), Mode::Viewing);

    let mut state = State::new(setup(true));
    let Update::Finding(mut it) = finding(2000, 5000 * MS, Kind::Orphaned, Stage::Open) else {
        unreachable!()
    };
    let holder = |pid| HolderView {
        pid,
        ns_pid: pid,
        start: 77,
        uid: 0,
        comm: Visible::new(b"java"),
        argv: Vec::new(),
        argv_cut: false,
        argv_verbatim: true,
        launcher: Vec::new(),
        forked: false,
        fds: vec![1],
        sockets: Vec::new(),
        rings: Vec::new(),
        shared_with: Vec::new(),
        streams: vec![Slot::Stdout],
        path: Vec::new(),
        origin: crate::model::Origin::Inherited,
        sender: None,
        container: None,
    };
    it.body = FindingBody::Orphaned {
        stream: Some(Slot::Stdout),
        written: 10,
        holders: vec![holder(5000), holder(5001)],
    };
    state.feed(Feed::Updates(vec![opened(2000), Update::Finding(it)]));
    state.command(Command::Signal);
    assert_eq!(state.mode(), Mode::Confirming);
    state.command(Command::Move(1));
    assert_eq!(
        state.command(Command::Confirm),
        Some(Effect::Terminate {
            pid: 5001,
            start: 77
        })
    );
    assert_eq!(state.command(Command::Confirm), None, "once");
    state.command(Command::Signal);
    state.command(Command::Back);
    assert_eq!(state.mode(), Mode::Viewing);
}

/// The state after a golden recording, with the history of the selected session.
pub fn golden(name: &str) -> State {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
        .with_extension("rec");
    let mut state = State::new(setup(false));
    let (out, inbox, request, requests): (_, _, _, TimelineRequests) = channel(|| ());
    let source = std::thread::spawn(move || Replay { path, keep: 100 }.run(out, requests));
    while state.phase != Phase::Complete {
        for feed in inbox.drain() {
            state.feed(feed);
        }
        std::thread::yield_now();
    }
    state.clock.follow();
    for id in state
        .rows
        .values()
        .map(|row| row.view.id)
        .collect::<Vec<_>>()
    {
        request.send(Some(id)).unwrap();
    }
    if let Some(Some(id)) = state.take_request() {
        request.send(Some(id)).unwrap();
    }
    drop(request);
    source.join().unwrap().unwrap();
    for feed in inbox.drain() {
        state.feed(feed);
    }
    state
}

#[test]
fn a_recording_is_replayed_with_its_histories() {
    let mut state = golden("orphaned");
    assert_eq!(state.rows.len(), 2);
    assert_eq!(state.host.ends(u64::MAX).clean, 2);
    assert!(state.timeline().is_some(), "that of the selected session");
    let copied = state.command(Command::CopyJson);
    let Some(Effect::Copy(json)) = copied else {
        panic!("{copied:?}");
    };
    let lines: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["type"], "session_opened");
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["type"], &last["verdict"]),
        (&"session_closed".into(), &"clean".into())
    );
    assert!(lines.iter().any(|line| line["kind"] == "orphaned"));
    let copied = state.command(Command::CopyFix);
    assert!(matches!(copied, Some(Effect::Copy(fix)) if fix.ends_with("2>&1 &")));
}
