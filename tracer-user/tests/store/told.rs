//! What is kept of one session tells what was told of it live.

use std::{fs, path::Path};

use lastbyte::store::recording;

use crate::trace::is_told_alike;

#[test]
fn of_recorded_sessions_the_same_is_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut sessions = 0;
    for entry in fs::read_dir(&folder).expect("tests/golden") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "rec") {
            let mut reader = recording::Reader::open(&path).expect("a recording");
            let mut records = Vec::new();
            while let Some(record) = reader.next().expect("a whole recording") {
                records.push(record.bytes().to_vec());
            }
            println!("{}", path.display());
            sessions += is_told_alike(&records);
        }
    }
    assert!(sessions >= 8, "only {sessions} sessions");
}
