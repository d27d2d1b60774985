//! The course of sessions: of real ones that were recorded, and of stories.

use std::path::Path;

use lastbyte::{
    model::{
        ExitStatus, Kind, LossCause, Model, SessionId, Slot, State, Update, Verdict,
        timeline::{Edge, Stage, Timeline, Timelines},
    },
    store::recording::Reader,
};
use tracer_ebpf::Record;
use zerocopy::IntoBytes as _;

use crate::scenario::{STDOUT, Scenario, empty, id, stdout_has};

fn apply(lines: &mut Timelines, model: &mut Model, record: Record<'_>) {
    let mut updates = Vec::new();
    model.apply(record, &mut updates);
    lines.apply(record, &updates);
}

/// The closed sessions of a golden recording, in the order of their ends.
fn golden(name: &str) -> Vec<Timeline> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
        .with_extension("rec");
    let mut reader = Reader::open(&path).unwrap();
    let (mut lines, mut model) = (Timelines::new(100), Model::new());
    while let Some(record) = reader.next().unwrap() {
        apply(&mut lines, &mut model, record);
    }
    assert_eq!(lines.open().count(), 0, "every session is over");
    let mut closed: Vec<_> = lines.closed().cloned().collect();
    closed.reverse();
    closed
}

/// What a story's records make.
fn of(scenario: &Scenario, keep: usize) -> Timelines {
    let (mut lines, mut model) = (Timelines::new(keep), Model::new());
    for bytes in &scenario.records {
        // A record is read where it lies aligned.
        let mut words = vec![0u64; bytes.len() / 8];
        words.as_mut_bytes().copy_from_slice(bytes);
        let record = Record::decode(words.as_bytes()).unwrap();
        apply(&mut lines, &mut model, record);
    }
    lines
}

fn edges(timeline: &Timeline, slot: Slot) -> Vec<Edge> {
    let lane = timeline.lane(slot).unwrap();
    lane.marks.iter().map(|mark| mark.edge).collect()
}

#[test]
fn a_job_that_outlives_its_command_is_seen_to_hold_and_let_go() {
    let lines = golden("orphaned");
    let line = &lines[0];
    let names: Vec<_> = line
        .processes
        .iter()
        .map(|life| life.name().as_str())
        .collect();
    assert_eq!(names, ["bash", "sleep", "sleep"]);
    let [leader, long, longer] = line.processes.as_slice() else {
        panic!("three processes: {:?}", line.processes);
    };
    assert_eq!((long.parent, longer.parent), (leader.pid, leader.pid));
    assert_eq!(leader.exit, Some(ExitStatus::Code(0)));
    assert_eq!(long.argv().last().map(|word| word.as_str()), Some("2.6"));
    assert!(leader.ended < long.ended && long.ended < longer.ended);

    let [first, second] = line.holds.as_slice() else {
        panic!("two holders: {:?}", line.holds);
    };
    assert_eq!(
        (first.holder.pid, second.holder.pid),
        (long.pid, longer.pid)
    );
    assert!(first.ended < second.ended);
    let spell = second.ended.unwrap() - second.began;
    assert!((1_700_000_000..2_100_000_000).contains(&spell), "{spell}");
    assert_eq!(second.holder.path.len(), 2);

    let [told] = line.findings.as_slice() else {
        panic!("one finding: {:?}", line.findings);
    };
    assert_eq!(
        (told.finding.kind(), told.finding.state),
        (Kind::Orphaned, State::Resolved)
    );
    assert!(told.changes >= 2, "one let go, then the other: {told:?}");
    assert_eq!(told.finding.holders()[0].pid, longer.pid, "who let go last");
    assert_eq!(line.closed.as_ref().unwrap().verdict, Verdict::Clean);
    assert!(edges(line, Slot::Stdout).contains(&Edge::Eof));

    let line = &lines[1];
    let setsid = &line.processes[1];
    let programs: Vec<_> = setsid.programs.iter().map(|it| it.comm.as_str()).collect();
    assert_eq!(programs, ["setsid", "sh"], "one process, two programs");
}

#[test]
fn an_earlier_moment_is_as_it_was_then() {
    let lines = golden("orphaned");
    let whole = &lines[0];
    let told = whole.holds[0].began;
    let then = whole.until(told);
    assert!(then.closed.is_none() && then.last <= told);
    assert_eq!(then.holds.len(), 2);
    assert!(then.holds.iter().all(|hold| hold.ended.is_none()));
    let alive = then.processes.iter().filter(|life| life.ended.is_none());
    assert_eq!(alive.count(), 2, "the jobs, not the command");
    let before = whole.until(whole.session.exited.unwrap() - 1);
    assert!(before.session.exit.is_none() && before.news.is_empty());
    assert_eq!(whole.until(u64::MAX), *whole);
}

#[test]
fn what_was_lost_is_seen_to_be_unread_when_the_server_closed() {
    let lines = golden("truncated");
    let cut = lines
        .iter()
        .find_map(|line| match line.closed.as_ref()?.verdict {
            Verdict::Truncated(cut) => Some((line, cut)),
            _ => None,
        });
    let (line, cut) = cut.expect("a recording of truncated sessions");
    assert_eq!(cut.cause, LossCause::ServerClosedEarly);
    let lane = line.lane(Slot::Stdout).unwrap();
    let close = lane
        .marks
        .iter()
        .find(|mark| mark.edge == Edge::ServerClose)
        .unwrap();
    assert_eq!(close.unread, cut.bytes);
    let told = line.told_server().unwrap();
    assert!(told.time <= close.time && told.unread[1] > 0, "{told:?}");
    assert_eq!(lane.written(), 4_000_000);
    assert!(lane.points.is_sorted_by_key(|point| point.time));
    assert!(lane.points.is_sorted_by_key(|point| point.written));
}

#[test]
fn news_of_the_end_come_in_stages() {
    let lines = golden("ordinary");
    let stages: Vec<_> = lines[0].news.iter().map(|news| news.stage).collect();
    assert_eq!(stages, [Stage::Generated, Stage::Delivered, Stage::Reaped]);
    assert_eq!(
        lines[0].processes[0].exit,
        Some(ExitStatus::Code(3)),
        "echo hi; exit 3"
    );
    let pty = lines
        .iter()
        .find(|line| line.lane(Slot::Stdout).unwrap().transport == "pty");
    let pty = pty.expect("a session on a terminal");
    assert!(pty.lane(Slot::Stderr).is_none(), "one object, one lane");
}

#[test]
fn a_timeline_reads_back_as_it_was_written() {
    for name in ["orphaned", "truncated", "ordinary"] {
        for line in golden(name) {
            let json = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<Timeline>(&json).unwrap(), line);
        }
    }
}

#[test]
fn signals_to_members_and_to_the_server_are_kept() {
    let mut scenario = Scenario::exact();
    scenario.session(5000).runs(5000, "sleep 9");
    scenario.after(10).kill(crate::scenario::SERVER, 15);
    let lines = of(&scenario, 100);
    let line = lines.get(SessionId(id(5000))).unwrap();
    let [signal] = line.signals.as_slice() else {
        panic!("one signal: {:?}", line.signals);
    };
    assert!(signal.to_server && signal.signal == 15 && signal.target == crate::scenario::SERVER);
}

#[test]
fn a_fork_bomb_leaves_the_leader_and_those_that_live() {
    let mut scenario = Scenario::exact();
    scenario.session(5000).runs(5000, "bomb");
    scenario.spawn(5000, 5000, 5001, &["sleep", "99"]);
    for pid in 6000..9000 {
        scenario.after(1).fork(5000, 5000, pid, "bomb");
        scenario.after(1).exits(5000, pid);
    }
    let lines = of(&scenario, 100);
    let line = lines.get(SessionId(id(5000))).unwrap();
    assert_eq!(line.processes.len(), 256);
    assert_eq!(line.left_out.processes, 3002 - 256);
    assert_eq!(line.processes[0].pid, 5000);
    let sleeper = line.processes.iter().find(|life| life.pid == 5001).unwrap();
    assert!(sleeper.ended.is_none());
}

#[test]
fn many_open_sessions_share_what_is_kept_of_points() {
    let mut scenario = Scenario::exact();
    for leader in 10_000..12_000 {
        scenario.session(leader);
    }
    for n in 1..100 {
        scenario.after(250);
        scenario.stream(11_999, STDOUT, tracer_ebpf::edge::SAMPLE, |r| {
            r.counters.written = n * 10;
            r.counters.read = n * 9;
        });
    }
    let lines = of(&scenario, 100);
    let line = lines.get(SessionId(id(11_999))).unwrap();
    let lane = line.lane(Slot::Stdout).unwrap();
    assert!(lane.points.len() < 50, "{}", lane.points.len());
    assert_eq!(lane.written(), 990);
}

#[test]
fn closed_sessions_are_kept_up_to_a_number_and_none_beside() {
    let mut scenario = Scenario::exact();
    for leader in 5000..5005 {
        scenario.session(leader).runs(leader, "true");
        scenario.leader_exits(leader, 0, empty());
        scenario.chld(leader, tracer_ebpf::chld::REAPED, stdout_has(0, 0));
        scenario.closes_all(leader, 0).idle(500);
    }
    let lines = of(&scenario, 2);
    let closed = |update: &&Update| matches!(update, Update::SessionClosed(_));
    assert_eq!(scenario.updates.iter().filter(closed).count(), 5);
    assert_eq!(lines.open().count(), 0);
    let kept: Vec<_> = lines.closed().map(|line| line.session.leader_pid).collect();
    assert_eq!(kept, [5004, 5003]);
}

/// Until it executes something a process has the name of who forked it.
#[test]
fn a_process_has_the_name_that_it_had_then() {
    let mut scenario = Scenario::exact();
    scenario
        .session(5000)
        .exec(5000, 5001, 5000, &["late"])
        .after(5)
        .exec(5000, 5000, crate::scenario::SERVER, &["bash"])
        .after(5)
        .exec(5000, 5000, crate::scenario::SERVER, &["sftp-server"]);
    let lines = of(&scenario, 1);
    let line = lines.get(SessionId(id(5000))).expect("open");
    let [leader, late] = line.processes.as_slice() else {
        panic!("two processes: {:?}", line.processes);
    };
    assert_eq!(
        (&*leader.comm, &**leader.name()),
        ("sshd-session", "sftp-server")
    );
    assert_eq!(&**leader.name_at(leader.programs[0].time), "bash");
    assert_eq!((&*late.comm, &**late.name()), ("sshd-session", "late"));
}
