//! A trace that is kept, and what is told of it anew from what was kept.

use std::{path::Path, time::Duration};

use lastbyte::{
    model::{Closed, Finding, Model, SessionId, Update},
    store::{
        Options, Outcome, Policy, RecordList, Recorder, StoreQuery, StoreReader, UnfinishedSessions,
    },
};
use tempfile::TempDir;
use tracer_ebpf::Record;
use zerocopy::IntoBytes;

/// How long the disk may take.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The boot that tests run in.
pub const BOOT: &str = "0b1c2d3e-0000-4000-8000-000000000001";

/// What a daemon does with records.
pub struct Trace {
    pub model: Model,
    pub recorder: Recorder,
    pub updates: Vec<Update>,
    pub progress: u64,
}

impl Trace {
    pub fn begin(options: Options) -> (Self, UnfinishedSessions) {
        let (recorder, left) = Recorder::open(options);
        let trace = Self {
            model: Model::new(),
            recorder,
            updates: Vec::new(),
            progress: 0,
        };
        (trace, left)
    }

    pub fn at(directory: &Path) -> Self {
        Self::begin(options(directory)).0
    }

    /// Takes in the bytes of a record, wherever they are.
    pub fn take(&mut self, bytes: &[u8]) {
        let mut words = vec![0u64; bytes.len().div_ceil(8)];
        let aligned = &mut words.as_mut_bytes()[..bytes.len()];
        aligned.copy_from_slice(bytes);
        let record = Record::decode(aligned).expect("a record");
        let before = self.updates.len();
        let applied = self.model.apply(record, &mut self.updates);
        self.progress += 1;
        let updates = &self.updates[before..];
        self.recorder
            .record(&record, &applied, updates, self.progress);
    }

    pub fn take_all(&mut self, records: &[Vec<u8>]) {
        records.iter().for_each(|record| self.take(record));
    }
}

/// A directory where nothing waits for a disk, if there is such a place.
pub fn in_memory() -> TempDir {
    let place = Path::new("/dev/shm");
    let directory = match place.is_dir() {
        true => tempfile::tempdir_in(place),
        false => tempfile::tempdir(),
    };
    directory.expect("a directory")
}

pub fn options(directory: &Path) -> Options {
    Options {
        directory: directory.to_owned(),
        // The stories are told in 2023.
        policy: Policy {
            max_age: u64::MAX,
            findings_max_age: u64::MAX,
            ..Policy::default()
        },
        boot: BOOT.to_owned(),
    }
}

/// Findings and last words on one session.
#[derive(Debug, Default, PartialEq)]
pub struct Told {
    pub findings: Vec<Finding>,
    pub closed: Vec<Closed>,
}

pub fn told(updates: &[Update], id: SessionId) -> Told {
    let mut told = Told::default();
    for update in updates {
        match update {
            Update::Finding(it) if it.session.id == id => told.findings.push(it.clone()),
            Update::SessionClosed(it) if it.session.id == id => told.closed.push(it.clone()),
            _ => {}
        }
    }
    told
}

/// What a model that has seen nothing yet makes of the records.
pub fn replay(records: &RecordList) -> Vec<Update> {
    let (mut model, mut updates) = (Model::new(), Vec::new());
    for record in records.iter() {
        model.apply(record, &mut updates);
    }
    updates
}

fn alike(live: &Told, anew: &Told) {
    for (live, anew) in live.findings.iter().zip(&anew.findings) {
        assert_eq!(live, anew, "a finding told anew");
    }
    assert_eq!(live, anew, "told anew");
}

/// Keeps the records, and holds what is kept of each session against what was told live. Gives the
/// number of sessions that were closed.
pub fn is_told_alike(records: &[Vec<u8>]) -> usize {
    let directory = in_memory();
    let mut trace = Trace::at(directory.path());
    trace.take_all(records);
    assert!(
        trace.recorder.flush(PATIENCE),
        "{}",
        trace.recorder.health()
    );
    let live = std::mem::take(&mut trace.updates);
    let reader = StoreReader::open(directory.path()).expect("what was kept");
    let mut closed = 0;
    for kept in reader.sessions(&StoreQuery::default()).expect("sessions") {
        let id = kept.outcome.view().id;
        let live = told(&live, id);
        let findings = reader.findings_of(kept.key).expect("findings");
        let findings: Vec<Finding> = findings.into_iter().map(|kept| kept.finding).collect();
        assert_eq!(findings, live.findings, "as they were told");
        let records = reader.records(kept.key).expect("records");
        alike(&live, &told(&replay(&records), id));
        if let Outcome::Closed(it) = kept.outcome {
            assert_eq!(live.closed, [it]);
            closed += 1;
        }
    }
    let live_closed = live
        .iter()
        .filter(|it| matches!(it, Update::SessionClosed(_)))
        .count();
    assert_eq!(closed, live_closed);
    closed
}
