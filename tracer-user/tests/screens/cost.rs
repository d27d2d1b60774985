//! Processor time of the terminal UI, on a terminal of 120×40 that reads as fast as it can:
//!
//! `cargo test --release -p tracer-user --test screens -- --ignored --nocapture what_it_costs`

use std::{
    fs,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use lastbyte::{
    export::Zone,
    model::{Opened, SessionId, SessionView, Slot, StreamNews, Update, Visible},
    tui::{
        Begin, Setup, Source,
        feed::{Feed, Phase},
        source::{Outbox, TimelineRequests},
    },
};

use crate::terminal::Terminal;

const SESSIONS: u64 = 1000;
const UPDATES: u64 = 10_000;
/// Time between two batches.
const ROUND: Duration = Duration::from_millis(10);

/// A source with so many busy sessions, or none.
struct Busy {
    sessions: u64,
}

impl Source for Busy {
    fn run(self, mut out: Outbox, _asks: TimelineRequests) -> anyhow::Result<()> {
        let boot = || {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
            now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
        };
        out.send(Feed::Phase(Phase::Live));
        let views: Vec<_> = (0..self.sessions)
            .map(|n| Arc::new(view(n, boot())))
            .collect();
        for session in &views {
            out.queue(Update::SessionOpened(Opened {
                had: lastbyte::model::History::default(),
                time: session.opened,
                session: Arc::clone(session),
            }));
        }
        out.flush();
        let begun = Instant::now();
        let mut sent = 0;
        loop {
            let due = begun.elapsed().as_millis() as u64 * UPDATES / 1000;
            for n in (sent..due).take_while(|_| self.sessions > 0) {
                out.queue(Update::Sample(StreamNews {
                    time: boot(),
                    session: Arc::clone(&views[(n % self.sessions) as usize]),
                    slot: [Slot::Stdin, Slot::Stdout, Slot::Stderr]
                        [(n / self.sessions % 3) as usize],
                    written: n * 1000,
                    read: n * 1000,
                    unread: 0,
                }));
            }
            sent = due;
            out.flush();
            thread::sleep(if self.sessions > 0 {
                ROUND
            } else {
                Duration::from_secs(3600)
            });
        }
    }
}

fn view(n: u64, now: u64) -> SessionView {
    SessionView {
        id: SessionId((now / 1_000_000) << 22 | (n + 1000)),
        user: Some(Visible::new(format!("user{}", n % 50).as_bytes())),
        uid: Some(1000),
        peer: Some(([10, 0, (n / 250) as u8, (n % 250) as u8], 50_000).into()),
        local: None,
        server_exe: Visible::new(b"sshd-session"),
        server_owner: None,
        server_pid: 1,
        command: Some(Visible::new(
            format!("rsync --server number {n}").as_bytes(),
        )),
        leader_pid: n as u32 + 1000,
        exit: None,
        exited: None,
        opened: now,
        preexisting: false,
    }
}

fn shows(sessions: u64) {
    let setup = Setup {
        source: "synthetic".to_owned(),
        live: true,
        allow_signals: false,
        keep: 500,
        begin: Begin::End,
        speed: 1.0,
        zone: Zone::default(),
    };
    lastbyte::tui::run(setup, Busy { sessions }, false).expect("the UI runs");
}

/// Runs in a process of its own, started by the measurement below.
#[test]
#[ignore = "runs until it gets the key to quit"]
fn busy_source() {
    shows(SESSIONS);
}

/// The same without any updates.
#[test]
#[ignore = "runs until it gets the key to quit"]
fn idle_source() {
    shows(0);
}

/// Processor time of each of a process's threads, s.
fn threads(pid: u32) -> Vec<(String, f64)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the program is there");
    let stats = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let mut times: Vec<(String, f64)> = stats
        .filter_map(|stat| {
            let (before, after) = stat.rsplit_once(") ")?;
            let name = before.split_once('(')?.1.to_owned();
            let ticks = after.split(' ').skip(11).take(2);
            let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
            Some((
                name,
                ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
            ))
        })
        .collect();
    times.sort_by(|a, b| b.1.total_cmp(&a.1));
    times
}

/// Frames drawn, and processor and wall time, s.
struct Cost {
    frames: usize,
    processor: f64,
    wall: f64,
}

fn measure(source: &str, what: &str, wall: Duration) -> Cost {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--ignored", "--exact", source, "--nocapture"]);
    command.env("TERM", "xterm-256color");
    let mut terminal = Terminal::run(&command, (120, 40));
    terminal.shows("● live");
    terminal.for_a_while(Duration::from_secs(2));
    let (before, written) = (threads(terminal.id()), terminal.written.len());
    let begun = Instant::now();
    terminal.for_a_while(wall);
    let wall = begun.elapsed().as_secs_f64();
    let sum = |of: &[(String, f64)]| of.iter().map(|(_, time)| time).sum::<f64>();
    let after = threads(terminal.id());
    let output = &terminal.written[written..];
    let frames = output.windows(8).filter(|it| *it == b"\x1b[?2026h").count();
    let processor = sum(&after) - sum(&before);
    println!(
        "{what}: {:.1}% of one processor ({processor:.2} s in {wall:.1} s), {:.1} frames/s, {:.1} kB/s written",
        processor / wall * 100.0,
        frames as f64 / wall,
        output.len() as f64 / wall / 1000.0
    );
    for (name, time) in after {
        println!("  since the start {time:.2} s: {name}");
    }
    terminal.keys("q");
    terminal.ends();
    Cost {
        frames,
        processor,
        wall,
    }
}

/// Ratios of processor time, which a busy machine does not change: it draws less often then.
#[test]
fn what_it_costs() {
    let busy = measure(
        "cost::busy_source",
        "1,000 sessions, 10,000 updates/s",
        Duration::from_secs(4),
    );
    let a_second = busy.frames as f64 / busy.wall;
    assert!(busy.frames > 0 && a_second < 22.0, "{a_second} frames/s");
    // Half a processor at 20 frames a second.
    let a_frame = busy.processor / busy.frames as f64;
    assert!(a_frame < 0.5 / 20.0, "{a_frame} s a frame");
    let idle = measure("cost::idle_source", "idle", Duration::from_secs(3));
    assert_eq!(idle.frames, 0);
    let share = idle.processor / idle.wall;
    assert!(share < 0.02, "{share} of a processor");
}
