//! The screens of `lastbyte top` and how it treats the terminal: the real binary on a pty, read by a
//! terminal emulator.
//!
//! The expected screens are files in this folder. After an intended change, write them again with
//! `LASTBYTE_SCREENS=write cargo test -p tracer-user --test screens`, and read the diff.

mod cost;
mod hostile;
mod lines;
mod terminal;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use lastbyte::export::Zone;
use lastbyte::tui::{
    Begin, Setup, Source,
    source::{Outbox, TimelineRequests},
};
use rustix::process::Signal;

use self::terminal::Terminal;

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (220, 60)];

fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    path.join(name).with_extension("rec").display().to_string()
}

fn replay(name: &str, size: (u16, u16)) -> Terminal {
    let mut terminal = Terminal::lastbyte(&["top", "--paused", "--replay", &golden(name)], size);
    // Shown once the whole recording has been read.
    terminal.shows("‖ paused");
    terminal
}

/// Compares a screen with its file at each size.
fn matches_file(name: &str, recording: &str, keys: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/screens");
    let writes = std::env::var_os("LASTBYTE_SCREENS").is_some_and(|value| value == "write");
    for size in SIZES {
        let mut terminal = replay(recording, size);
        terminal.keys(keys);
        let file: PathBuf = folder.join(format!("{name}-{}x{}.txt", size.0, size.1));
        if writes {
            terminal.rests();
            fs::write(&file, terminal.text()).expect("the screen's file");
        } else {
            let expected = fs::read_to_string(&file)
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            terminal.until(&format!("{}:\n{expected}", file.display()), |it| {
                it.text() == expected
            });
        }
    }
}

#[test]
fn sessions() {
    matches_file("sessions", "orphaned", "n");
}

#[test]
fn a_session_that_is_kept_open() {
    matches_file("session-orphaned", "orphaned", "n\r");
}

#[test]
fn a_session_that_lost_bytes() {
    matches_file("session-truncated", "truncated", "n\r");
}

#[test]
fn findings() {
    matches_file("findings", "truncated", "L3j");
}

#[test]
fn the_host() {
    matches_file("host", "truncated", "L4");
}

#[test]
fn an_explanation() {
    matches_file("explain", "ordinary", "Le");
}

#[test]
fn the_keys() {
    matches_file("keys", "ordinary", "?");
}

#[test]
fn the_first_frame_does_not_wait_for_the_recording() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("recording");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .expect("a fifo");
    // Opening it blocks until there is a writer.
    let path = pipe.display().to_string();
    let mut terminal = Terminal::lastbyte(&["top", "--replay", &path], SIZES[0]);
    terminal.shows("reading the recording");
    terminal.keys("4");
    terminal.shows("records per second");
    terminal.keys("q");
    assert_eq!(terminal.ends().0, Some(0));
}

/// The best of some starts, as a busy machine delays the others.
#[test]
fn the_first_frame_is_drawn_at_once() {
    const MOST: Duration = Duration::from_millis(200);
    let times = (0..10).map(|_| {
        let begun = Instant::now();
        let mut terminal = replay("ordinary", SIZES[1]);
        terminal.shows("? help");
        let took = begun.elapsed();
        terminal.keys("q");
        assert_eq!(terminal.ends().0, Some(0));
        took
    });
    let best = times.min().expect("some");
    println!("the first frame was drawn after {best:?}");
    assert!(best <= MOST, "{best:?}");
}

#[test]
fn a_click_selects_and_a_wheel_moves() {
    // The lines above the list.
    const ABOVE: usize = 3;
    let recording = golden("demo");
    let args = ["top", "--mouse", "--paused", "--replay", &recording];
    let mut terminal = Terminal::lastbyte(&args, SIZES[1]);
    terminal.shows("‖ paused");
    terminal.keys("L");
    terminal.shows("── session ");
    let text = terminal.text();
    let pids: Vec<&str> = text
        .lines()
        .skip(ABOVE)
        .map_while(|line| {
            line.split_whitespace()
                .find(|word| word.parse::<u32>().is_ok())
        })
        .collect();
    assert!(pids.len() > 1, "{text}");
    // Lines and columns are counted from 1 (ctlseqs of xterm, SGR mouse mode).
    for (at, pid) in pids.iter().enumerate().rev() {
        terminal.keys(&format!("\x1b[<0;10;{}M", ABOVE + at + 1));
        terminal.shows(&format!("── session {pid}-"));
    }
    terminal.keys("\x1b[<65;10;10M");
    let last = pids[pids.len().min(4) - 1];
    terminal.shows(&format!("── session {last}-"));
    terminal.keys("q");
    assert_eq!(terminal.ends().0, Some(0));
}

#[test]
fn a_window_may_have_any_size_and_change_it() {
    let mut terminal = replay("orphaned", (120, 40));
    terminal.keys("n\r");
    terminal.shows("holds stdout, stderr");
    for size in [(20, 5), (41, 10), (300, 90), (80, 24)] {
        terminal.resize(size);
        for view in ["1", "3", "4", "2"] {
            terminal.keys(view);
        }
        terminal.keys("?q");
    }
    terminal.shows("── history ─");
    terminal.shows("? help");
    terminal.keys("q");
    assert_eq!(terminal.ends().0, Some(0));
}

#[test]
fn without_colours_no_colour_is_set_and_no_text_is_missing() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastbyte"));
    command
        .args(["top", "--paused", "--replay", &golden("orphaned")])
        .env("NO_COLOR", "1")
        .env("TERM", "xterm-256color");
    let mut terminal = Terminal::run(&command, (120, 40));
    terminal.shows("‖ paused");
    terminal.keys("n");
    terminal.shows("▲ orphaned");
    terminal.rests();
    let written = String::from_utf8_lossy(&terminal.written).into_owned();
    // Colours are set with SGR 30 to 49, of which 39 and 49 are none.
    let coloured = written.split("\x1b[").skip(1).any(|rest| {
        let codes: String = rest
            .chars()
            .take_while(|c| c.is_ascii_digit() || *c == ';')
            .collect();
        let sets = rest[codes.len()..].starts_with('m');
        let colour = |code: &str| matches!(code.parse(), Ok(30..=38 | 40..=48u8));
        sets && codes.split(';').any(colour)
    });
    assert!(!coloured, "{written:?}");
    terminal.keys("q");
    assert_eq!(terminal.ends().0, Some(0));
}

#[test]
fn a_signal_gives_the_terminal_back() {
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let mut terminal = replay("ordinary", SIZES[0]);
        assert!(terminal.is_taken());
        terminal.shows("? help");
        terminal.signal(signal);
        assert_eq!(terminal.ends().0, Some(0), "{signal:?}");
    }
}

#[test]
fn it_stops_and_continues_like_any_job() {
    for by_key in [true, false] {
        let mut terminal = replay("ordinary", SIZES[0]);
        if by_key {
            terminal.keys("\x1a");
        } else {
            terminal.signal(Signal::TSTP);
        }
        terminal.until("it has left the screen", |it| !it.is_taken());
        // It leaves the screen shortly before it stops.
        while terminal.state() != 'T' {
            std::thread::yield_now();
        }
        terminal.signal(Signal::CONT);
        terminal.until("it is back on the screen", Terminal::is_taken);
        terminal.shows("? help");
        terminal.keys("q");
        assert_eq!(terminal.ends().0, Some(0));
    }
}

#[test]
fn a_copy_goes_to_the_terminals_clipboard() {
    let mut terminal = replay("orphaned", SIZES[1]);
    terminal.keys("n");
    terminal.shows("▲ orphaned");
    terminal.keys("yp");
    terminal.shows("copied the pid");
    let written = String::from_utf8_lossy(&terminal.written);
    assert!(written.contains("\x1b]52;c;"), "OSC 52");
    terminal.keys("q");
    assert_eq!(terminal.ends().0, Some(0));
}

/// Runs in a process of its own, started by the test below.
#[test]
#[ignore = "panics, and takes the terminal"]
fn panicking_source() {
    struct Panics;
    impl Source for Panics {
        fn run(self, _: Outbox, _: TimelineRequests) -> anyhow::Result<()> {
            panic!("on purpose");
        }
    }
    let setup = Setup {
        source: "test".to_owned(),
        live: true,
        allow_signals: false,
        keep: 1,
        begin: Begin::End,
        speed: 1.0,
        zone: Zone::default(),
    };
    let ended = lastbyte::tui::run(setup, Panics, false);
    eprintln!("ended: {ended:?}");
}

#[test]
fn a_panic_gives_the_terminal_back_and_is_reported() {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--ignored", "--exact", "panicking_source", "--nocapture"]);
    let mut terminal = Terminal::run(&command, SIZES[0]);
    terminal.until("the end", |it| {
        String::from_utf8_lossy(&it.written).contains("test result")
    });
    let written = String::from_utf8_lossy(&terminal.written).into_owned();
    let back = written.rfind("\x1b[?1049l").expect("it left the screen");
    assert!(written.contains("on purpose"), "{written}");
    assert!(written[back..].contains("this is a bug"), "{written}");
    assert_eq!(terminal.ends().0, Some(0));
}

#[test]
fn without_a_terminal_it_fails_with_one_sentence() {
    let output = Command::new(env!("CARGO_BIN_EXE_lastbyte"))
        .output()
        .expect("the binary runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("lastbyte watch"), "{stderr}");
}

#[test]
fn an_unreadable_recording_is_reported_on_the_normal_screen() {
    let terminal = Terminal::lastbyte(&["top", "--replay", "/no/such/file"], SIZES[0]);
    let (status, text) = terminal.ends();
    assert_eq!(status, Some(1));
    assert!(text.contains("/no/such/file: cannot be opened"), "{text}");
}

/// The window is closed, or the connection that carries it ends.
#[test]
fn a_terminal_that_vanishes_ends_it_without_a_word() {
    let directory = tempfile::tempdir().expect("a directory");
    let complaints = directory.path().join("stderr");
    let stderr = fs::File::create(&complaints).expect("a file");
    let (mut child, mut ours) = terminal::spawn(
        &[
            "top",
            "--paused",
            "--replay",
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/demo.rec"),
        ],
        stderr.into(),
    );
    // It is drawing by then.
    let mut buffer = [0; 4096];
    let drawn = std::io::Read::read(&mut ours, &mut buffer).expect("it draws");
    assert!(drawn > 0);
    // And soon hears signals.
    std::thread::sleep(Duration::from_secs(1));
    drop(ours);
    let status = child.wait().expect("it ends");
    let stderr = fs::read_to_string(&complaints).expect("its stderr");
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
}
