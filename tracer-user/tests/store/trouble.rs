//! A disk that is full, a database that is no longer what it was, or never was.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, Once},
};

use lastbyte::store::{StoreHealth, StoreQuery, StoreReader};
use tempfile::TempDir;

use crate::{
    skipped::skipped,
    stories,
    trace::{PATIENCE, Trace, in_memory},
};

fn database(directory: &Path) -> PathBuf {
    directory.join("lastbyte.db")
}

/// What was logged as an error.
static ERRORS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.level() == log::Level::Error {
            ERRORS.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Log).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
    });
}

fn errors(about: &str) -> usize {
    let errors = ERRORS.lock().unwrap();
    errors.iter().filter(|error| error.contains(about)).count()
}

/// A file system of 1 MiB.
struct Small(TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "lastbyte-test"])
            .arg(directory.path())
            .status();
        mount
            .is_ok_and(|status| status.success())
            .then(|| Self(directory))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmount = Command::new("umount").arg(self.0.path()).status();
        assert!(unmount.is_ok_and(|status| status.success()));
    }
}

/// Fills the file system.
fn ballast(directory: &Path) -> PathBuf {
    let path = directory.join("ballast");
    for bytes in [1 << 16, 1 << 12] {
        let mut file = fs::File::options()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap();
        while std::io::Write::write_all(&mut file, &vec![7; bytes]).is_ok() {}
    }
    path
}

#[test]
fn with_a_full_disk_findings_wait_until_there_is_room() {
    listen();
    let Some(small) = Small::mount() else {
        let name = "with_a_full_disk_findings_wait_until_there_is_room";
        return skipped(name, "only root can mount a small file system");
    };
    let directory = small.0.path();
    let mut trace = Trace::at(directory);
    trace.take_all(&stories::many(5000..5050, true));
    assert!(
        trace.recorder.flush(PATIENCE),
        "{}",
        trace.recorder.health()
    );
    let path = ballast(directory);
    for leader in [5050, 5100, 5150] {
        trace.take_all(&stories::many(leader..leader + 50, true));
        assert!(!trace.recorder.flush(PATIENCE), "there is room");
        let health = trace.recorder.health();
        assert!(matches!(health, StoreHealth::Failing { .. }), "{health}");
        assert!(health.to_string().contains("full"), "{health}");
    }
    assert_eq!(errors("disk is full"), 1, "it is told once");
    fs::remove_file(path).unwrap();
    // An attempt that began before that may still fail.
    assert!(
        trace.recorder.flush(PATIENCE) || trace.recorder.flush(PATIENCE),
        "{}",
        trace.recorder.health()
    );
    assert_eq!(trace.recorder.health(), StoreHealth::Good);
    let reader = StoreReader::open(directory).unwrap();
    assert_eq!(reader.findings(&StoreQuery::default()).unwrap().len(), 20);
    assert_eq!(reader.sessions(&StoreQuery::default()).unwrap().len(), 200);
    drop((trace, reader));
}

#[test]
fn what_is_not_ours_is_left_alone_and_findings_wait() {
    let foreign_database = |path: &Path| {
        let foreign = rusqlite::Connection::open(path).unwrap();
        foreign
            .execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)")
            .unwrap();
    };
    let newer = |path: &Path| {
        drop(Trace::at(path.parent().unwrap()));
        let newer = rusqlite::Connection::open(path).unwrap();
        newer.pragma_update(None, "user_version", 99).unwrap();
        newer.pragma_update(None, "journal_mode", "DELETE").unwrap();
    };
    type Spoil = fn(&Path);
    let spoilers: [(&str, Spoil); 4] = [
        ("not a database of lastbyte", |path| {
            fs::write(path, "dear diary").unwrap();
        }),
        ("not a database of lastbyte", foreign_database),
        ("schema 99", newer),
        ("lastbyte.db", |path| fs::create_dir(path).unwrap()),
    ];
    for (why, spoil) in spoilers {
        let directory = in_memory();
        let path = database(directory.path());
        spoil(&path);
        let before = fs::read(&path).ok();
        let mut trace = Trace::at(directory.path());
        trace.take_all(&stories::many(5000..5020, true));
        assert!(!trace.recorder.flush(PATIENCE));
        let health = trace.recorder.health();
        assert!(matches!(health, StoreHealth::Unopened { .. }), "{health}");
        assert!(health.to_string().contains(why), "{health}");
        assert_eq!(fs::read(&path).ok(), before);
        let names: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(names.len(), 2, "only a lock beside it: {names:?}");
        // Once it is out of the way, nothing was lost.
        fs::rename(&path, directory.path().join("away")).unwrap();
        assert!(
            trace.recorder.flush(PATIENCE),
            "{}",
            trace.recorder.health()
        );
        let reader = StoreReader::open(directory.path()).unwrap();
        assert_eq!(reader.findings(&StoreQuery::default()).unwrap().len(), 2);
        assert_eq!(reader.sessions(&StoreQuery::default()).unwrap().len(), 20);
    }
}

#[test]
fn a_second_recorder_keeps_away() {
    let directory = in_memory();
    let first = Trace::at(directory.path());
    let mut second = Trace::at(directory.path());
    assert!(second.recorder.health().to_string().contains("in use"));
    second.take_all(&stories::many(5000..5001, false));
    assert!(!second.recorder.flush(PATIENCE));
    drop(first);
    assert!(
        second.recorder.flush(PATIENCE),
        "{}",
        second.recorder.health()
    );
}

#[test]
fn a_place_that_cannot_be_had_is_named() {
    let directory = in_memory();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let trace = Trace::at(&file.join("state"));
    let health = trace.recorder.health().to_string();
    assert!(health.contains("file/state"), "{health}");
    assert!(StoreReader::open(&file).is_err());
}

#[test]
fn files_are_private() {
    let directory = in_memory();
    let state = directory.path().join("state");
    let mut trace = Trace::at(&state);
    trace.take_all(&stories::many(5000..5001, false));
    assert!(trace.recorder.flush(PATIENCE));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    let files: Vec<_> = fs::read_dir(&state)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

/// Overwrites everything but the head, by which it is known.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[100..].fill(0x5a);
    fs::write(path, bytes).unwrap();
}

/// The files that were set aside.
fn aside(directory: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.to_string_lossy().into_owned();
    files
        .filter(|path| name(path).contains(".db.corrupt-"))
        .filter(|path| !name(path).ends_with("-wal") && !name(path).ends_with("-shm"))
        .collect()
}

#[test]
fn a_damaged_database_is_set_aside() {
    let directory = in_memory();
    let mut trace = Trace::at(directory.path());
    trace.take_all(&stories::many(5000..5050, true));
    assert!(trace.recorder.flush(PATIENCE));
    drop(trace);
    damage(&database(directory.path()));
    let damaged = fs::read(database(directory.path())).unwrap();
    let mut trace = Trace::at(directory.path());
    trace.take_all(&stories::many(6000..6010, true));
    assert!(
        trace.recorder.flush(PATIENCE),
        "{}",
        trace.recorder.health()
    );
    let aside = aside(directory.path());
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(fs::read(&aside[0]).unwrap(), damaged);
    let reader = StoreReader::open(directory.path()).unwrap();
    assert_eq!(reader.sessions(&StoreQuery::default()).unwrap().len(), 10);
}

#[test]
fn damage_while_it_is_open_costs_only_what_was_kept() {
    let directory = in_memory();
    let mut trace = Trace::at(directory.path());
    // More than SQLite has in its cache, so that it has to read.
    trace.take_all(&stories::many(10_000..13_000, true));
    let mut scenario = crate::scenario::Scenario::exact();
    stories::begins(&mut scenario, 7000);
    trace.take_all(&std::mem::take(&mut scenario.records));
    assert!(trace.recorder.flush(PATIENCE));
    // Into the file that is open.
    let path = database(directory.path());
    let len = fs::metadata(&path).unwrap().len() as usize;
    let file = fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0x5a; len - 4096], 4096).unwrap();
    fs::File::options()
        .write(true)
        .open(directory.path().join("lastbyte.db-wal"))
        .unwrap()
        .set_len(0)
        .unwrap();
    // It is noticed when something is read there.
    let mut leader = 20_000;
    while aside(directory.path()).is_empty() {
        assert!(leader < 30_000, "it is never noticed");
        trace.take_all(&stories::many(leader..leader + 50, false));
        let _ = trace.recorder.flush(PATIENCE);
        leader += 50;
    }
    stories::ends(&mut scenario, 7000, 55);
    trace.take_all(&std::mem::take(&mut scenario.records));
    trace.take_all(&stories::many(40_000..40_100, true));
    assert!(
        trace.recorder.flush(PATIENCE),
        "{}",
        trace.recorder.health()
    );
    assert_eq!(aside(directory.path()).len(), 1);
    let reader = StoreReader::open(directory.path()).unwrap();
    assert!(reader.sessions(&StoreQuery::default()).unwrap().len() >= 101);
    let kept = reader.session("7000").unwrap().expect("it was open");
    assert!(kept.lost > 0, "its beginning is missing");
    assert_eq!(kept.verdict(), Some("truncated"));
    assert_eq!(reader.findings_of(kept.key).unwrap().len(), 1);
    assert_eq!(reader.findings(&StoreQuery::default()).unwrap().len(), 11);
}
