//! The recorder is killed, or the machine loses its power, in the middle of writing.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    ops::Range,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use lastbyte::{
    model::SessionId,
    store::{Outcome, StoreReader},
};

use crate::{
    scenario::id,
    stories,
    trace::{PATIENCE, Trace, replay, told},
};

const DIRECTORY: &str = "LASTBYTE_TEST_STORE";
const FIRST: &str = "LASTBYTE_TEST_FIRST";
/// Sessions between two announcements.
const AT_ONCE: u32 = 7;

/// Keeps sessions and announces those that are kept, until it is killed.
#[test]
#[ignore = "the other half of `what_was_announced_outlives_a_kill`"]
fn keeps_until_it_is_killed() {
    let (Some(directory), Ok(first)) = (env::var_os(DIRECTORY), env::var(FIRST)) else {
        return;
    };
    let mut trace = Trace::at(Path::new(&directory));
    let mut leader: u32 = first.parse().unwrap();
    loop {
        trace.take_all(&stories::many(leader..leader + AT_ONCE, true));
        trace.updates.clear();
        assert!(
            trace.recorder.flush(PATIENCE),
            "{}",
            trace.recorder.health()
        );
        leader += AT_ONCE;
        println!("\nkept {leader}");
        std::io::stdout().flush().unwrap();
    }
}

/// Another process that keeps sessions.
struct Keeper {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Keeper {
    fn start(directory: &Path, first: u32) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "crash::keeps_until_it_is_killed"])
            .args(["--ignored", "--nocapture"])
            .env(DIRECTORY, directory)
            .env(FIRST, first.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The first leader that is not announced to be kept.
    fn announces(&mut self) -> u32 {
        loop {
            let line = self.lines.next().expect("it goes on").unwrap();
            if let Some(leader) = line.strip_prefix("kept ") {
                return leader.parse().unwrap();
            }
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let kill = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(kill.success());
    }
}

/// Everything announced is there, whole.
fn is_there(directory: &Path, leaders: Range<u32>) {
    let database = rusqlite::Connection::open(directory.join("lastbyte.db")).unwrap();
    let check = |pragma| database.pragma_query_value(None, pragma, |row| row.get::<_, String>(0));
    assert_eq!(check("integrity_check").unwrap(), "ok");
    let reader = StoreReader::open(directory).unwrap();
    for leader in leaders {
        let id = SessionId(id(leader));
        let kept = reader.session(&id.to_string()).unwrap();
        let kept = kept.unwrap_or_else(|| panic!("session {leader} is gone"));
        let Outcome::Closed(closed) = kept.outcome else {
            panic!("session {leader} is not closed");
        };
        let findings = reader.findings_of(kept.key).unwrap();
        assert_eq!(
            findings.iter().any(|kept| kept.finding.bytes() == 77),
            leader % 10 == 0
        );
        let anew = told(&replay(&reader.records(kept.key).unwrap()), id);
        assert_eq!(anew.closed, [closed]);
    }
}

fn copy(from: &Path, to: &Path, wal: Option<u64>) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        // What is not on the disk is not there after a power cut.
        if name.to_string_lossy().ends_with("-shm") {
            continue;
        }
        fs::copy(entry.path(), to.join(&name)).unwrap();
        if let Some(len) = wal.filter(|_| name.to_string_lossy().ends_with("-wal")) {
            let copy = fs::File::options().write(true).open(to.join(&name));
            copy.unwrap().set_len(len).unwrap();
        }
    }
}

#[test]
fn what_was_announced_outlives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let first = 5000 + round * 10_000;
        let mut keeper = Keeper::start(directory.path(), first);
        let mut kept = first;
        for _ in 0..=round {
            kept = keeper.announces();
        }
        // A moment in the middle of what comes next, as it is on the disk.
        for _ in 0..3 {
            keeper.signal("-STOP");
            let snapshot = tempfile::tempdir().unwrap();
            copy(directory.path(), snapshot.path(), None);
            is_there(snapshot.path(), first..kept);
            keeper.signal("-CONT");
            kept = keeper.announces();
        }
        keeper.child.kill().unwrap();
        assert_eq!(keeper.child.wait().unwrap().signal(), Some(9));
        is_there(directory.path(), first..kept);
    }
}

#[test]
fn what_was_announced_outlives_a_power_cut() {
    let directory = tempfile::tempdir().unwrap();
    let mut trace = Trace::at(directory.path());
    trace.take_all(&stories::many(5000..5010, true));
    assert!(trace.recorder.flush(PATIENCE));
    // The sweep after the first commit empties the log. What is written next comes after that; a flush
    // of nothing would not wait for it.
    trace.take_all(&stories::many(5010..5011, true));
    assert!(trace.recorder.flush(PATIENCE));
    let wal = directory.path().join("lastbyte.db-wal");
    let synced = fs::metadata(&wal).unwrap().len();
    trace.take_all(&stories::many(5011..5020, true));
    assert!(trace.recorder.flush(PATIENCE));
    let len = fs::metadata(&wal).unwrap().len();
    assert!(len > synced, "it is the log's tail that is cut off");
    // Of what came after the announcement the disk has any part.
    for cut in (synced..len).step_by(1111).chain([synced, len]) {
        let snapshot = tempfile::tempdir().unwrap();
        copy(directory.path(), snapshot.path(), Some(cut));
        is_there(snapshot.path(), 5000..5011);
        let (mut trace, _) = Trace::begin(crate::trace::options(snapshot.path()));
        trace.take_all(&stories::many(6001..6002, false));
        assert!(trace.recorder.flush(PATIENCE));
        drop(trace);
        is_there(snapshot.path(), 6001..6002);
    }
}
