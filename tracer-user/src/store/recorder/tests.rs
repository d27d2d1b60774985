//! A writer that is behind.

use rusqlite::Connection;

use super::*;
use crate::{
    model::{Model, Verdict},
    store::{Outcome, StoreQuery, StoreReader, database::FILE, recording},
};

const PATIENCE: Duration = Duration::from_secs(60);

fn keep(recorder: &mut Recorder) -> Vec<Update> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/ordinary.rec");
    let mut recording = recording::Reader::open(path.as_ref()).unwrap();
    let (mut model, mut updates) = (Model::new(), Vec::new());
    while let Some(record) = recording.next().unwrap() {
        let before = updates.len();
        let applied = model.apply(record, &mut updates);
        recorder.record(&record, &applied, &updates[before..], 1);
    }
    updates
}

/// A writer that is kept from writing.
fn behind(room: usize) -> (tempfile::TempDir, Vec<Update>) {
    let directory = tempfile::tempdir().unwrap();
    let (mut recorder, _) = Recorder::open(Options {
        directory: directory.path().to_owned(),
        policy: Policy {
            max_age: u64::MAX,
            ..Policy::default()
        },
        boot: String::new(),
    });
    recorder.room = room;
    let blocker = Connection::open(directory.path().join(FILE)).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let updates = keep(&mut recorder);
    blocker.execute_batch("ROLLBACK").unwrap();
    // The attempt that was under way may have failed.
    assert!(
        recorder.flush(PATIENCE) || recorder.flush(PATIENCE),
        "{}",
        recorder.health()
    );
    (directory, updates)
}

#[test]
fn when_the_writer_is_behind_records_are_lost_and_last_words_are_not() {
    for (room, whole) in [(ROOM, true), (5_000, false), (0, false)] {
        let (directory, updates) = behind(room);
        let last = |update: &Update| matches!(update, Update::SessionClosed(_));
        let reader = StoreReader::open(directory.path()).unwrap();
        let kept = reader.sessions(&StoreQuery::default()).unwrap();
        assert_eq!(kept.len(), updates.into_iter().filter(last).count());
        assert_eq!(kept.iter().all(|kept| kept.lost == 0), whole);
        for kept in kept {
            let Outcome::Closed(closed) = &kept.outcome else {
                panic!("{kept:#?}");
            };
            let (mut model, mut anew) = (Model::new(), Vec::new());
            for record in reader.records(kept.key).unwrap().iter() {
                model.apply(record, &mut anew);
            }
            for update in anew {
                if let Update::SessionClosed(it) = update {
                    assert!(it == *closed || kept.lost > 0);
                    assert!(kept.lost == 0 || it.verdict != Verdict::Clean);
                }
            }
        }
    }
}
