//! A daemon's socket and store serve sessions of any size to the real binary: whole, and without holding
//! them in memory.

#[path = "model/scenario/mod.rs"]
#[expect(dead_code, reason = "stories about the model need more of it")]
mod scenario;
#[path = "screens/terminal.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod terminal;
#[path = "store/trace.rs"]
mod trace;

use std::{
    io::{BufRead as _, BufReader},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
    thread,
};

use lastbyte::{
    daemon::{
        Past, Server, TracerMessage, TracerRequest,
        client::Client,
        config::Config,
        protocol::{Frame, Reply, Request},
    },
    model::{Gap, GapReason, Model, SessionId, Update, timeline::Timelines},
    store::{RecordList, StoreReader, recording},
};
use peak_alloc::PeakAlloc;
use tokio::sync::{mpsc, watch};

use scenario::Scenario;
use terminal::Terminal;
use trace::{BOOT, PATIENCE, Trace, in_memory};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Bytes that the server may take to send a hundred million.
const BOUND: usize = 8 << 20;

/// Keeps a session with so many processes; gives the bytes of its records.
fn keep(trace: &mut Trace, leader: u32, processes: u32, argument: &str) -> usize {
    let mut scenario = Scenario::exact();
    scenario.runs(leader, "for i in $(seq 1 99999); do true; done");
    let mut bytes = 0;
    let mut waiting = 0;
    let mut put = |scenario: &mut Scenario| {
        for record in scenario.records.drain(..) {
            bytes += record.len();
            waiting += record.len();
            trace.take(&record);
        }
        scenario.updates.clear();
        if waiting > 32 << 20 {
            // The tracer never waits for the disk; here records come faster than on any machine.
            waiting = 0;
            assert!(trace.recorder.flush(PATIENCE));
        }
    };
    put(&mut scenario);
    for n in 1..=processes {
        let pid = leader + n;
        scenario
            .after(1)
            .spawn(leader, leader, pid, &["true", argument])
            .exits(leader, pid);
        if n.is_multiple_of(500) {
            scenario.tick();
        }
        put(&mut scenario);
    }
    scenario.leader_exits(leader, 0, scenario::empty());
    scenario.closes_all(leader, 0).leaves().idle(5000);
    put(&mut scenario);
    assert!(
        trace.recorder.flush(PATIENCE),
        "{}",
        trace.recorder.health()
    );
    bytes
}

/// Serves what is kept in a directory, until the sender is dropped.
struct Served {
    socket: PathBuf,
    end: Option<mpsc::UnboundedSender<TracerMessage>>,
    thread: Option<thread::JoinHandle<anyhow::Result<()>>>,
}

impl Served {
    fn new(directory: &Path, trace: &Trace) -> Self {
        Self::with(directory, trace, Timelines::new(0))
    }

    /// The same with a tracer that has these timelines in memory.
    fn with(directory: &Path, trace: &Trace, timelines: Timelines) -> Self {
        let socket = directory.join("sock");
        // Of one that served there before.
        let _ = std::fs::remove_file(&socket);
        let (end, from_tracer) = mpsc::unbounded_channel();
        let (change, config) = watch::channel(Arc::new(Config::default()));
        let (requests, asked) = std::sync::mpsc::channel();
        // Everything was handed over before.
        thread::spawn(move || answer(&asked, timelines));
        let server = Server {
            listener: UnixListener::bind(&socket).expect("a socket"),
            from_tracer,
            requests,
            config,
            change,
            file: None,
            verbose: false,
            past: Past::new(
                directory.to_owned(),
                BOOT.to_owned(),
                trace.recorder.flusher(),
            ),
        };
        Self {
            socket,
            end: Some(end),
            thread: Some(thread::spawn(move || server.serve())),
        }
    }

    /// The tracer reports this.
    fn reports(&self, updates: &[Update]) {
        let tracer = self.end.as_ref().expect("it serves");
        tracer
            .send(TracerMessage::Updates(updates.to_vec()))
            .expect("it serves");
    }

    fn asked(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lastbyte"));
        command.args(args).arg("--socket").arg(&self.socket);
        command.output().expect("the binary runs")
    }

    /// The records that are sent of a session.
    fn records(&self, session: &str) -> Vec<u8> {
        let session = session.to_owned();
        let mut client = Client::ask(&self.socket, &Request::Course { session }).unwrap();
        let mut records = Vec::new();
        while let Some(frame) = client.reply().unwrap() {
            if let Frame::Records(part) = frame {
                records.extend(part);
            }
        }
        records
    }

    #[track_caller]
    fn says(&self, args: &[&str]) -> String {
        let output = self.asked(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {stderr}");
        String::from_utf8(output.stdout).expect("text")
    }
}

/// Answers like the tracer's thread, until the server has ended.
fn answer(requests: &std::sync::mpsc::Receiver<TracerRequest>, timelines: Timelines) {
    for request in requests {
        // The client may have disconnected.
        let _ = match request {
            TracerRequest::Flush(done) => done.send(()).is_ok(),
            TracerRequest::Timeline(session, reply) => reply
                .send(timelines.get(session).cloned().map(Box::new))
                .is_ok(),
        };
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic").expect("it served");
        }
    }
}

#[test]
fn sessions_of_any_size_are_shown() {
    let directory = in_memory();
    let mut trace = Trace::at(directory.path());
    // What `for i in $(seq 80); do /bin/true; done` makes: a little more than 64 KiB.
    let small = keep(&mut trace, 1_000_000, 80, "");
    let large = keep(&mut trace, 2_000_000, 125_000, &"x".repeat(500));
    assert!(small > 64 << 10, "{small} B");
    assert!(large > 100_000_000, "{large} B");
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let served = Served::new(directory.path(), &trace);
    let sessions = ["1000000", "2000000"];
    for leader in sessions {
        let events = served.says(&["show", leader, "--json"]);
        let closed = events
            .lines()
            .filter(|line| line.contains(r#""what":"closed""#));
        assert_eq!(closed.count(), 1, "{leader}: {events}");
    }
    let explained = served.says(&["explain", sessions[0]]);
    assert!(explained.contains("exited 0"), "{explained}");
    let nobody = served.asked(&["show", "77"]);
    let said = String::from_utf8_lossy(&nobody.stderr);
    assert!(
        !nobody.status.success() && said.contains("no session 77: see"),
        "{said}"
    );
    assert!(!said.contains("only a daemon"), "{said}");
    let peak = HEAP.peak_usage().saturating_sub(before);
    println!("{small} and {large} B of records; the server took {peak} B");
    assert!(peak < BOUND, "the server took {peak} B");

    let reader = StoreReader::open(directory.path()).unwrap();
    for leader in sessions {
        let kept = reader.session(leader).unwrap().expect("kept");
        let records = reader.records(kept.key).unwrap();
        assert!(
            served.records(leader) == records.bytes(),
            "{leader} is not whole"
        );
    }
}

/// An open session's timeline comes from the tracer's memory, unless there are too many open sessions.
#[test]
fn an_open_session_needs_no_database() {
    let directory = in_memory();
    let trace = Trace::at(directory.path());
    let mut scenario = Scenario::exact();
    let mut timelines = Timelines::open_only(1);
    scenario.runs(5000, "sleep 9").runs(5001, "sleep 10").tick();
    let mut model = Model::new();
    for record in std::mem::take(&mut scenario.records) {
        let mut records = RecordList::default();
        records.extend(&record);
        for record in records.iter() {
            let mut updates = Vec::new();
            model.apply(record, &mut updates);
            timelines.apply(record, &updates);
        }
    }
    let held = SessionId(scenario::id(5000));
    let expected = timelines.get(held).cloned().expect("there was room");
    let served = Served::with(directory.path(), &trace, timelines);
    let timeline = |session: SessionId| {
        let session = session.to_string();
        let mut client = Client::ask(&served.socket, &Request::Timeline { session }).unwrap();
        match client.reply().unwrap() {
            Some(Frame::Message(Reply::Timeline(timeline))) => Some(*timeline),
            other => {
                assert!(other.is_none(), "{other:?}");
                None
            }
        }
    };
    assert_eq!(timeline(held), Some(expected));
    assert_eq!(timeline(SessionId(scenario::id(5001))), None);
}

/// Keeps the sessions of a recording.
fn keep_recording(trace: &mut Trace, file: &Path) {
    let mut recording = recording::Reader::open(file).expect("a recording");
    while let Some(record) = recording.next().expect("a record") {
        trace.take(record.bytes());
    }
    assert!(trace.recorder.flush(PATIENCE));
}

#[test]
fn past_trouble_is_found_in_the_store() {
    let directory = in_memory();
    let mut trace = Trace::at(directory.path());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/orphaned.rec");
    keep_recording(&mut trace, &file);
    let served = Served::new(directory.path(), &trace);
    let of_file = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_lastbyte"))
            .args(args)
            .arg("--file")
            .arg(&file)
            .output();
        String::from_utf8(output.expect("the binary runs").stdout).expect("text")
    };
    let questions: [&[&str]; 6] = [
        &["ls", "--json", "--had", "orphaned"],
        &["ls", "--json", "--had", "stalled"],
        &["findings", "--json"],
        &["findings", "--json", "-n", "1"],
        &[
            "findings",
            "--json",
            "--kind",
            "orphaned",
            "--command",
            "setsid",
        ],
        &["findings", "--json", "--user", "nobody"],
    ];
    let answers = questions.map(of_file);
    assert!(
        answers[0].contains(r#""had":[{"kind":"orphaned""#),
        "{}",
        answers[0]
    );
    assert_eq!(answers[2].lines().count(), answers[0].lines().count());
    for (question, answer) in questions.iter().zip(&answers) {
        assert_eq!(&served.says(question), answer, "{question:?}");
    }
    // As a lastbyte kept it that did not know of this.
    let database = rusqlite::Connection::open(directory.path().join("lastbyte.db")).unwrap();
    let older = "UPDATE session SET told = json_remove(told, '$.had') WHERE told IS NOT NULL";
    assert!(database.execute(older, []).unwrap() > 0);
    for (question, answer) in questions.iter().zip(&answers) {
        assert_eq!(&served.says(question), answer, "{question:?} of before");
    }
}

/// Lines that a process writes, as they come.
fn lines(of: impl std::io::Read + Send + 'static) -> std::sync::mpsc::Receiver<String> {
    let (to, from) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(of).lines().map_while(Result::ok) {
            let _ = to.send(line);
        }
    });
    from
}

#[track_caller]
fn until(lines: &std::sync::mpsc::Receiver<String>, says: &str, seen: &mut Vec<String>) {
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                let found = line.contains(says);
                seen.push(line);
                if found {
                    return;
                }
            }
            Err(error) => panic!("`{says}` never came ({error}): {seen:#?}"),
        }
    }
}

/// Every line of a whole trace, once, though the daemon was away for the middle of it.
#[test]
fn watch_goes_on_when_the_daemon_is_back() {
    let directory = in_memory();
    let mut trace = Trace::at(directory.path());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/orphaned.rec");
    let mut recording = recording::Reader::open(&file).expect("a recording");
    // Until one session hangs.
    while !trace
        .updates
        .iter()
        .any(|it| matches!(it, Update::Finding(_)))
    {
        let record = recording.next().expect("a record").expect("a finding");
        trace.take(record.bytes());
    }
    let served = Served::new(directory.path(), &trace);
    served.reports(&trace.updates);
    let mut watch = Command::new(env!("CARGO_BIN_EXE_lastbyte"))
        .args(["watch", "--json", "--socket"])
        .arg(&served.socket)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let out = lines(watch.stdout.take().expect("piped"));
    let err = lines(watch.stderr.take().expect("piped"));
    let mut seen = Vec::new();
    until(&out, r#""kind":"orphaned""#, &mut seen);
    drop(served);
    until(&err, "reconnecting when it is back", &mut Vec::new());

    // All else happens while nobody serves.
    while let Some(record) = recording.next().expect("a record") {
        trace.take(record.bytes());
    }
    assert!(trace.recorder.flush(PATIENCE));
    let served = Served::new(directory.path(), &trace);
    let started = trace
        .updates
        .iter()
        .find(|it| matches!(it, Update::Started(_)));
    served.reports(&[started.expect("it started").clone()]);
    let sessions = trace
        .updates
        .iter()
        .filter(|it| matches!(it, Update::SessionClosed(_)))
        .count();
    for _ in 0..sessions {
        until(&out, r#""type":"session_closed""#, &mut seen);
    }
    // What comes now comes after all that.
    served.reports(&[Update::Gap(Gap {
        time: u64::MAX / 4,
        reason: GapReason::LostRecords,
        lost: 77,
        message: "the last".to_owned(),
    })]);
    until(&out, "the last", &mut seen);
    watch.kill().expect("it runs");
    watch.wait().expect("it ends");

    let whole = Command::new(env!("CARGO_BIN_EXE_lastbyte"))
        .args(["replay", "--json"])
        .arg(&file)
        .output()
        .expect("the binary runs");
    let about_sessions = |lines: Vec<String>| -> Vec<String> {
        let mut lines: Vec<String> = lines
            .into_iter()
            .filter(|line| line.contains(r#""session":"#))
            .collect();
        lines.sort();
        lines
    };
    let whole = String::from_utf8(whole.stdout).expect("text");
    let whole = about_sessions(whole.lines().map(str::to_owned).collect());
    assert!(whole.len() >= 4, "{whole:#?}");
    let seen = about_sessions(seen);
    for (seen, whole) in seen.iter().zip(&whole) {
        assert_eq!(seen, whole);
    }
    assert_eq!(seen.len(), whole.len(), "{seen:#?}");
}

/// A daemon that is killed says no last word: its connections just end.
#[test]
fn watch_says_that_a_killed_daemon_is_gone_and_reconnects() {
    let directory = in_memory();
    let trace = Trace::at(directory.path());
    let served = Served::new(directory.path(), &trace);
    let socket = directory.path().join("killed");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let mut watch = Command::new(env!("CARGO_BIN_EXE_lastbyte"))
        .args(["watch", "--json", "--socket"])
        .arg(&socket)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let out = lines(watch.stdout.take().expect("piped"));
    let err = lines(watch.stderr.take().expect("piped"));
    let report = |number: u64, message: &str| {
        served.reports(&[Update::Gap(Gap {
            time: number,
            reason: GapReason::LostRecords,
            lost: number,
            message: message.to_owned(),
        })]);
    };
    let (accepted, clients) = std::sync::mpsc::channel();
    let to = served.socket.clone();
    thread::spawn(move || {
        // Until the test ends.
        while accepted.send(pass_on(&listener, &to)).is_ok() {}
    });
    let client = clients.recv_timeout(PATIENCE).expect("it connects");
    thread::sleep(std::time::Duration::from_millis(500));
    report(1, "before it is killed");
    until(&out, "before it is killed", &mut Vec::new());
    client
        .shutdown(std::net::Shutdown::Both)
        .expect("it is there");
    until(&err, "is gone; reconnecting", &mut Vec::new());
    clients.recv_timeout(PATIENCE).expect("it reconnects");
    thread::sleep(std::time::Duration::from_millis(500));
    report(2, "after it is back");
    until(&out, "after it is back", &mut Vec::new());
    watch.kill().expect("it runs");
    watch.wait().expect("it ends");
}

/// Passes the next connection on to another socket; gives the client's.
fn pass_on(listener: &UnixListener, to: &Path) -> std::os::unix::net::UnixStream {
    let (client, _) = listener.accept().expect("a client");
    let server = std::os::unix::net::UnixStream::connect(to).expect("it serves");
    let copy = |from: &std::os::unix::net::UnixStream, to: &std::os::unix::net::UnixStream| {
        let mut from = from.try_clone().expect("a copy");
        let mut to = to.try_clone().expect("a copy");
        thread::spawn(move || {
            // The end of one is the end of the other.
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Both);
        });
    };
    copy(&client, &server);
    copy(&server, &client);
    client
}

/// What happened before `top` began, and while the daemon was away, can be gone back to.
#[test]
fn top_goes_back_to_before_it_began() {
    let directory = in_memory();
    let mut trace = Trace::at(directory.path());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/orphaned.rec");
    let mut recording = recording::Reader::open(&file).expect("a recording");
    let closed = |trace: &Trace| {
        let closed = trace
            .updates
            .iter()
            .filter(|it| matches!(it, Update::SessionClosed(_)));
        closed.count()
    };
    // Until the first of two sessions has closed.
    while closed(&trace) == 0 {
        let record = recording.next().expect("a record").expect("a session");
        trace.take(record.bytes());
    }
    assert!(trace.recorder.flush(PATIENCE));
    let served = Served::new(directory.path(), &trace);
    let started = trace
        .updates
        .iter()
        .find(|it| matches!(it, Update::Started(_)))
        .expect("it started")
        .clone();
    served.reports(std::slice::from_ref(&started));
    let socket = served.socket.display().to_string();
    let mut top = Terminal::lastbyte(&["top", "--socket", &socket], (160, 40));
    // One that had closed when it began, with what was found of it.
    top.shows("sleep 2.6 &");
    top.shows("✓ orphaned (resolved)");
    top.keys("3");
    top.shows("✓ orphaned, resolved");
    assert!(!top.text().contains(" ● 20:"), "unread: {}", top.text());
    // As it was then: the finding before the last moment is the one that it hung.
    top.keys("N");
    top.shows("▲ orphaned");
    top.shows("holder sleep[");
    top.keys("1");
    top.shows("▲ orphaned");
    top.keys("L");
    top.until("the latest moment", |it| !it.text().contains("▲ orphaned"));

    // What happens while nobody serves is there as well once somebody does.
    drop(served);
    while let Some(record) = recording.next().expect("a record") {
        trace.take(record.bytes());
    }
    assert!(closed(&trace) > 1 && trace.recorder.flush(PATIENCE));
    let served = Served::new(directory.path(), &trace);
    served.reports(&[started]);
    top.shows("setsid sh");
    top.keys("3");
    top.shows(" ● 20:");
    top.keys("q");
    assert_eq!(top.ends().0, Some(0));
}
