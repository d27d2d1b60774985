//! Who passed ends of a session's streams on, over unix sockets.

use tracer_ebpf::{Passed, Proc, way};

use crate::model::view::{Step, Visible};

/// Most handovers kept of one session. Of what comes after them nothing is concluded.
const MAX: usize = 64;

#[derive(Debug)]
struct Handover {
    sent: bool,
    by: Step,
    proc: Proc,
    file: u64,
    /// Pid at the other end of the socket.
    peer: u32,
}

/// What is known of a session's handovers.
#[derive(Debug, Default)]
pub(in crate::model) struct Handovers {
    known: Vec<Handover>,
    cut: bool,
}

/// How far the handovers that were seen can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::model) enum Sight {
    /// Every process that sends or receives a file is seen.
    Whole,
    /// Only what members of sessions send.
    Members,
    /// Records may be missing.
    Gap,
}

impl Handovers {
    pub fn add(&mut self, record: &Passed) {
        if self.known.len() >= MAX {
            self.cut = true;
            return;
        }
        self.known.push(Handover {
            sent: record.way == way::SENT,
            by: Step {
                comm: Visible::field(&record.comm),
                pid: record.proc.pid,
            },
            proc: record.proc,
            file: record.file,
            peer: record.peer,
        });
    }

    /// Whether a process has received one of these files.
    pub fn received(&self, proc: Proc, files: &[u64], sight: Sight) -> bool {
        self.known.iter().any(|it| {
            files.contains(&it.file)
                && match sight {
                    Sight::Members => it.sent && it.peer == proc.pid,
                    Sight::Whole | Sight::Gap => !it.sent && it.proc == proc,
                }
        })
    }

    /// Who sent these files to a process that has received them, or is yet to. `None` unless only
    /// one can have done so: a wrong name would be worse than none.
    pub fn sender(&self, proc: Proc, files: &[u64], sight: Sight) -> Option<Step> {
        if self.cut || sight == Sight::Gap {
            return None;
        }
        let mut senders = self.known.iter().filter(|it| {
            it.sent && files.contains(&it.file) && (sight == Sight::Whole || it.peer == proc.pid)
        });
        let first = senders.next()?;
        senders
            .all(|other| other.proc == first.proc)
            .then(|| first.by.clone())
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros;

    use super::*;

    const FILE: u64 = 0xffff_8880_0000_7000;

    fn proc(pid: u32) -> Proc {
        Proc {
            start: u64::from(pid),
            pid,
            pad: 0,
        }
    }

    fn passed(way: u32, pid: u32, peer: u32) -> Passed {
        let mut record = Passed::new_zeroed();
        record.way = way;
        record.proc = proc(pid);
        record.file = FILE;
        record.peer = peer;
        record
    }

    fn known(records: &[Passed]) -> Handovers {
        let mut handovers = Handovers::default();
        records.iter().for_each(|record| handovers.add(record));
        handovers
    }

    fn sender(handovers: &Handovers, to: u32, sight: Sight) -> Option<u32> {
        handovers
            .sender(proc(to), &[FILE], sight)
            .map(|step| step.pid)
    }

    #[test]
    fn the_only_sender_is_named() {
        let it = known(&[passed(way::SENT, 10, 0), passed(way::RECEIVED, 20, 0)]);
        assert!(it.received(proc(20), &[FILE], Sight::Whole));
        assert_eq!(sender(&it, 20, Sight::Whole), Some(10));
        assert!(
            !it.received(proc(21), &[FILE], Sight::Whole),
            "another process"
        );
        assert!(
            !it.received(proc(20), &[FILE + 8], Sight::Whole),
            "another file"
        );
    }

    #[test]
    fn of_two_senders_none_is_named() {
        let it = known(&[
            passed(way::SENT, 10, 0),
            passed(way::RECEIVED, 11, 0),
            passed(way::SENT, 11, 0),
            passed(way::RECEIVED, 20, 0),
        ]);
        assert_eq!(sender(&it, 20, Sight::Whole), None);
    }

    #[test]
    fn where_only_members_are_seen_the_socket_must_lead_to_the_receiver() {
        let it = known(&[passed(way::SENT, 10, 20), passed(way::SENT, 11, 30)]);
        assert!(it.received(proc(20), &[FILE], Sight::Members));
        assert_eq!(sender(&it, 20, Sight::Members), Some(10));
        assert!(!it.received(proc(40), &[FILE], Sight::Members));
        assert_eq!(sender(&it, 40, Sight::Members), None);
    }

    #[test]
    fn what_may_be_missing_names_nobody() {
        let mut it = known(&[passed(way::SENT, 10, 20)]);
        assert_eq!(sender(&it, 20, Sight::Gap), None);
        for _ in 0..MAX {
            it.add(&passed(way::SENT, 10, 20));
        }
        assert_eq!(it.known.len(), MAX);
        assert_eq!(sender(&it, 20, Sight::Whole), None);
    }
}
