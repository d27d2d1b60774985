//! Sessions whose every text contains what could break the screen.

use lastbyte::store::recording::Writer;
use tracer_ebpf::{
    Exec, Header, Kind, Proc, SessionStart, Start, StreamEnds, Tick, backend, role, session_id,
    transport,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::terminal::Terminal;

const ARGV: &str = "日本語日本語日本語\0🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀\0\x1b[2J\x1b[31mred\0e\u{301}e\u{301}\0\u{202e}txt.exe\0";

fn put<T: FromBytes + IntoBytes + Immutable>(
    writer: &mut Writer<std::fs::File>,
    kind: Kind,
    time: u64,
    change: impl FnOnce(&mut T),
) {
    let mut record = T::new_zeroed();
    change(&mut record);
    let header = Header {
        time,
        kind: kind as u16,
        size: kind.size() as u16,
        cpu: 0,
    };
    let bytes = record.as_mut_bytes();
    bytes[..size_of::<Header>()].copy_from_slice(header.as_bytes());
    writer.append(record.as_bytes()).expect("a record");
}

fn text<const N: usize>(text: &str) -> [u8; N] {
    let mut out = [0; N];
    let len = text.len().min(N);
    out[..len].copy_from_slice(&text.as_bytes()[..len]);
    out
}

/// Ten sessions, every other one with a hostile command.
fn recording(path: &std::path::Path) {
    let mut writer = Writer::create(path).expect("a recording");
    let mut now = 1_000_000_000;
    put(&mut writer, Kind::Start, now, |it: &mut Start| {
        it.backend = backend::FENTRY;
        it.host = text("host\x1b]0;title\x07");
        it.kernel = text("6.12");
        it.servers = text("sshd\0");
    });
    put(&mut writer, Kind::Ready, now, |_: &mut Tick| ());
    for pid in 100..110u32 {
        now += 1_000_000;
        let leader = Proc {
            start: now,
            pid,
            pad: 0,
        };
        put(
            &mut writer,
            Kind::SessionStart,
            now,
            |it: &mut SessionStart| {
                it.session = session_id(leader);
                it.leader = leader;
                it.server.pid = 50;
                it.uid = 1000;
                it.exe = text("sshd🦀日本語\x1b[5m");
                it.streams = [1, 2, 3].map(|object| StreamEnds {
                    object: u64::from(pid) * 10 + object,
                    transport: transport::PIPE,
                    capacity: 65_536,
                });
            },
        );
        let argv = if pid % 2 == 0 { ARGV } else { "sleep\x00100\0" };
        put(&mut writer, Kind::Exec, now, |it: &mut Exec| {
            it.session = session_id(leader);
            it.proc = leader;
            it.parent = 50;
            it.uid = 1000;
            it.flags = role::LEADER;
            it.argv = text(argv);
            it.argv_len = argv.len() as u32;
            it.argv_full = argv.len() as u32;
            it.comm = text("日本語🦀\x1b[H");
        });
        put(&mut writer, Kind::Tick, now + 1000, |_: &mut Tick| ());
    }
    put(
        &mut writer,
        Kind::Tick,
        now + 3_000_000_000,
        |_: &mut Tick| (),
    );
    writer.finish().expect("the recording is written");
}

#[test]
fn hostile_text_breaks_neither_the_layout_nor_the_terminal() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hostile.rec");
    recording(&path);
    let path = path.display().to_string();
    for size in super::SIZES {
        let mut terminal = Terminal::lastbyte(&["top", "--replay", &path, "--speed", "600"], size);
        terminal.shows("end of recording");
        terminal.shows("10 open");
        terminal.rests();
        let text = terminal.text();
        let rows: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("● running"))
            .collect();
        assert!(rows.len() >= 5, "{text}");
        let ages: Vec<usize> = rows
            .iter()
            .filter_map(|row| column_of(row, "3.0s"))
            .collect();
        assert_eq!(ages.len(), rows.len(), "every row has its age\n{rows:#?}");
        assert!(
            ages.windows(2).all(|two| two[0] == two[1]),
            "in one column: {ages:?}\n{text}"
        );
        for keys in ["\r", "e", "q", "3", "4", "2"] {
            terminal.keys(keys);
        }
        terminal.shows("── history ─");
        terminal.rests();
        let text = terminal.text();
        for line in text.lines() {
            assert!(width(line) <= usize::from(size.0), "{line:?}");
        }
        let written = String::from_utf8_lossy(&terminal.written);
        for bad in ["\x1b[2J\x1b[31m", "\x1b]0;", "\x1b[5m", "\u{202e}"] {
            assert!(!written.contains(bad), "{bad:?} reached the terminal");
        }
        terminal.keys("q");
        assert_eq!(terminal.ends().0, Some(0));
    }
}

fn width(text: &str) -> usize {
    unicode_width::UnicodeWidthStr::width(text)
}

fn column_of(row: &str, text: &str) -> Option<usize> {
    row.find(text).map(|at| width(&row[..at]))
}
