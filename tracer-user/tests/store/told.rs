//! What is kept of one session tells what was told of it live.

use std::{fs, path::Path};

use lastbyte::{
    model::Kind,
    store::{StoreReader, recording},
};
use tracer_ebpf::{Record, edge};

use crate::{
    scenario::{STDOUT, Scenario, empty},
    trace::{PATIENCE, Trace, in_memory, is_told_alike},
};

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

#[test]
fn what_goes_on_for_long_takes_little_room() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "tar c / & ")
        .spawn(5000, 5000, 5001, &["tar"]);
    for second in 1..=600u64 {
        for quarter in 0..4 {
            scenario.after(250).stream(5000, STDOUT, edge::SAMPLE, |r| {
                r.counters.written = second * 1_000_000 + quarter * 1000;
                r.counters.read = r.counters.written;
            });
            scenario.tick();
        }
    }
    scenario.leader_exits(5000, 0, empty());
    scenario.run(600_000, |scenario| {
        scenario
            .server_holds(5000)
            .holds(5000, 5001, "tar", &[(1, 1)]);
    });
    assert_eq!(scenario.findings(Kind::Orphaned).len(), 1);
    scenario.exits(5000, 5001).run(3000, |_| ());
    scenario.closes_all(5000, 600_000_000).idle(3000);
    assert_eq!(scenario.findings(Kind::Orphaned).len(), 2);
    assert_eq!(is_told_alike(&scenario.records), 1);

    let directory = in_memory();
    let mut trace = Trace::at(directory.path());
    trace.take_all(&scenario.records);
    assert!(trace.recorder.flush(PATIENCE));
    let reader = StoreReader::open(directory.path()).unwrap();
    let kept = reader.session("5000").unwrap().expect("kept");
    let records = reader.records(kept.key).unwrap();
    let (mut samples, mut looks, mut all) = (0, 0, 0);
    for record in records.iter() {
        all += 1;
        match record {
            Record::Stream(it) if it.edge == edge::SAMPLE => samples += 1,
            Record::ScanEnd(_) => looks += 1,
            _ => {}
        }
    }
    println!(
        "{all} of {} records, {} B",
        scenario.records.len(),
        kept.bytes
    );
    assert!((250..350).contains(&samples), "{samples} samples");
    assert!((3..20).contains(&looks), "{looks} looks");
    assert!(
        all < 1000 && scenario.records.len() > 20_000,
        "{all} records"
    );
}
