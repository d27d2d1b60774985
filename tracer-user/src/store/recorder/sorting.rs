//! Which session's journal a record goes to.

use std::collections::HashMap;

use tracer_ebpf::{Holder, Proc, Record, SessionStart, Socket, Tick, edge};

use super::Recorder;
use crate::{
    model::{Applied, Audience, SessionId, SessionScan},
    store::{RecordList, journal::SessionJournal, pending::Key},
};

/// Most bytes of one scan that are kept.
const MAX_SCAN: usize = 64 << 20;

/// A scan that is under way. Which sessions its records are about is known when it is complete.
#[derive(Debug, Default)]
pub(super) struct PendingScan {
    records: Vec<u8>,
    /// For each socket record: sessions on its connection, and whether it is evidence for them.
    sockets: Vec<(Audience, bool)>,
}

impl PendingScan {
    fn add(&mut self, record: &Record<'_>, applied: &Applied) {
        if self.records.len() >= MAX_SCAN {
            return;
        }
        self.records.extend_from_slice(record.bytes());
        if let Record::Socket(_) = record {
            let carried = applied.about.clone();
            self.sockets.push((carried, applied.is_evidence));
        }
    }
}

impl Recorder {
    /// Puts a record into the journals of the sessions that it is about.
    pub(super) fn sort(&mut self, record: &Record<'_>, applied: &Applied) {
        match record {
            Record::Tick(_) => return,
            Record::SessionStart(start) => return self.start(start, record, applied),
            Record::ScanBegin(_) => {
                let mut scan = PendingScan::default();
                scan.add(record, applied);
                self.scan = Some(scan);
                return;
            }
            Record::ScanEnd(_) => {
                if let Some(scan) = self.scan.take() {
                    self.end_scan(scan, record, applied);
                }
                return;
            }
            Record::Holder(_) | Record::Process(_) | Record::Cgroup(_) | Record::Socket(_) => {
                if let Some(scan) = &mut self.scan {
                    return scan.add(record, applied);
                }
            }
            _ => {}
        }
        if applied.about == Audience::Everyone {
            self.touched.extend(self.journals.keys());
            let journals = self.journals.values_mut();
            journals.for_each(|journal| journal.keep(record));
        }
        for id in applied.about.ids() {
            let journal = self.journal(*id);
            match record {
                Record::Stream(it) if it.edge == edge::SAMPLE => {
                    journal.sample(it, applied.is_evidence);
                }
                _ => journal.keep(record),
            }
        }
    }

    /// Ends a tick in the journals of the sessions that the model examined at it.
    pub(super) fn settle(&mut self, tick: Option<&Tick>, applied: &Applied) {
        for settled in &applied.settled {
            let id = settled.session;
            let Some(journal) = self.journals.get_mut(&id) else {
                continue;
            };
            if settled.is_dropped && journal.view.is_none() {
                self.journals.remove(&id);
                self.unannounced.remove(&id);
            } else if let Some(tick) = tick {
                journal.tick(tick, settled);
                self.touched.insert(id);
            }
        }
    }

    /// The journal of a session, begun if need be.
    fn journal(&mut self, id: SessionId) -> &mut SessionJournal {
        let Self {
            context,
            journals,
            unannounced,
            touched,
            found,
            ..
        } = self;
        touched.insert(id);
        journals.entry(id).or_insert_with(|| {
            *found += 1;
            unannounced.insert(id);
            let mut journal = SessionJournal::new(Key::New(*found), id);
            for before in context.of(id) {
                journal.put(before);
            }
            Box::new(journal)
        })
    }

    fn start(&mut self, start: &SessionStart, record: &Record<'_>, applied: &Applied) {
        let before = self.context.of_start(start, applied.forked_as);
        for id in applied.about.ids() {
            let journal = self.journal(*id);
            before.iter().for_each(|bytes| journal.put(bytes));
            journal.keep(record);
        }
    }

    /// Sorts the records of a complete scan.
    fn end_scan(&mut self, mut scan: PendingScan, end: &Record<'_>, applied: &Applied) {
        scan.records.extend_from_slice(end.bytes());
        let mut all = RecordList::default();
        all.extend(&scan.records);
        let time = end.header().time;
        let index = ScanIndex::new(&applied.scans);
        let mut sorted = vec![Vec::new(); applied.scans.len()];
        let mut sockets = scan.sockets.iter().enumerate();
        for record in all.iter() {
            let scans = match record {
                // The scan may have been made for more sessions, but only these were served.
                Record::ScanBegin(_) | Record::ScanEnd(_) => (0..sorted.len()).collect(),
                Record::Holder(Holder { session, .. }) => {
                    index.by_session.get(session).copied().into_iter().collect()
                }
                Record::Process(it) => index.of_proc(it.proc),
                Record::Cgroup(it) => index.of_proc(it.proc),
                Record::Socket(it) => match sockets.next() {
                    Some((number, (carried, is_evidence))) => {
                        self.sort_socket(it, *is_evidence, carried, &index);
                        index.of_socket(number, carried)
                    }
                    None => Vec::new(),
                },
                _ => Vec::new(),
            };
            for at in scans {
                sorted[at].extend_from_slice(record.bytes());
            }
        }
        for (scan, records) in applied.scans.iter().zip(sorted) {
            let journal = self.journal(scan.session);
            for (proc, name) in &scan.holders {
                journal.server(*proc, *name, time);
            }
            journal.scan(records, time);
        }
    }

    /// The state of a connection is news for all sessions on it, whether the scan was made for them or not.
    fn sort_socket(
        &mut self,
        socket: &Socket,
        is_evidence: bool,
        carried: &Audience,
        index: &ScanIndex<'_>,
    ) {
        for id in carried.ids() {
            if !index.by_session.contains_key(&id.0) {
                self.journal(*id).socket(socket, is_evidence);
            }
        }
    }
}

/// Finds the sessions of a scan, as positions in its list.
struct ScanIndex<'a> {
    by_session: HashMap<u64, usize>,
    by_proc: HashMap<Proc, Vec<usize>>,
    scans: &'a [SessionScan],
}

impl<'a> ScanIndex<'a> {
    fn new(scans: &'a [SessionScan]) -> Self {
        let mut by_session = HashMap::new();
        let mut by_proc: HashMap<Proc, Vec<usize>> = HashMap::new();
        for (at, scan) in scans.iter().enumerate() {
            by_session.insert(scan.session.0, at);
            for (proc, _) in &scan.holders {
                by_proc.entry(*proc).or_default().push(at);
            }
        }
        Self {
            by_session,
            by_proc,
            scans,
        }
    }

    fn of_proc(&self, proc: Proc) -> Vec<usize> {
        self.by_proc.get(&proc).cloned().unwrap_or_default()
    }

    /// Those that the socket record with this number is about, or that are on its connection.
    fn of_socket(&self, number: usize, carried: &Audience) -> Vec<usize> {
        let scans = self.scans.iter().enumerate();
        let about = scans.filter(|(_, scan)| {
            scan.sockets.binary_search(&number).is_ok() || carried.ids().contains(&scan.session)
        });
        about.map(|(at, _)| at).collect()
    }
}
