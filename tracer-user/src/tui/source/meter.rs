//! The tracer's load, measured from the records that pass by.

use tracer_ebpf::{Kind, Record};

use crate::tui::feed::TracerLoad;

const SECOND: u64 = 1_000_000_000;

/// Counts records, and reports once a second.
#[derive(Debug, Default)]
pub struct Meter {
    load: TracerLoad,
    /// Bytes read from the ring buffer since the last tick: all of them were in it at the same time.
    drained: u64,
}

impl Meter {
    /// Counts a record. Returns the load when a new second has begun.
    pub fn record(&mut self, record: &Record<'_>) -> Option<TracerLoad> {
        let header = record.header();
        self.load.records += 1;
        if header.kind < Kind::Start as u16 {
            // In the ring each has a header of 8 bytes (BPF_RINGBUF_HDR_SZ, include/uapi/linux/bpf.h).
            self.drained += u64::from(header.size) + 8;
        }
        match record {
            Record::Loss(loss) => {
                let lost = loss.counts.iter().copied().fold(0, u64::saturating_add);
                self.load.lost = self.load.lost.saturating_add(lost);
            }
            Record::Tick(_) => {
                let load = &mut self.load;
                load.ring_peak = load.ring_peak.max(std::mem::take(&mut self.drained));
                if header.time / SECOND > load.time / SECOND {
                    load.time = header.time;
                    let report = *load;
                    load.ring_peak = 0;
                    return Some(report);
                }
            }
            _ => {}
        }
        None
    }

    /// The totals at the end of a recording.
    pub(super) fn totals(&self, time: u64) -> TracerLoad {
        TracerLoad { time, ..self.load }
    }
}
