//! The course of one stream: how many bytes when, and what happened to it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use tracer_ebpf::{Counters, STREAMS, StreamEnds, StreamNow, edge};

use crate::model::{
    facts::{observed, transport_name},
    view::{Slot, StreamReport},
};

/// Most points of a stream, however much room there is.
pub(super) const MAX_POINTS: usize = 512;
/// Of these, the latest are never thinned out.
const RECENT: usize = 128;
/// Fewest points that a stream has room for, however many streams there are.
pub(super) const MIN_POINTS: usize = 24;
/// Most marks: a stream has seven edges, of which those that several processes make come again.
const MAX_MARKS: usize = 24;

/// The course of one stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lane {
    /// Which.
    pub slot: Slot,
    /// What it is made of: `pipe`, `unix`, `pty`; `unknown` when its beginning was not seen.
    pub transport: Cow<'static, str>,
    /// Inode number of its object.
    pub object: u64,
    /// Bytes that the object can hold; 0 when not known.
    pub capacity: u64,
    /// Sums at moments, ascending; the less dense the longer ago.
    pub points: Vec<Point>,
    /// What happened to it, ascending.
    pub marks: Vec<Mark>,
    /// Successful writes.
    pub writes: u64,
    /// Reads that gave bytes.
    pub reads: u64,
    /// Most bytes that were seen in the object after a write.
    pub high_water: u64,
    /// Since when a writer waits for room.
    pub blocked_since: Option<u64>,
}

/// A stream at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// When.
    pub time: u64,
    /// Bytes written so far.
    pub written: u64,
    /// Bytes read so far.
    pub read: u64,
    /// Bytes in the object; of moments that were left out, the most.
    pub unread: u64,
}

/// Something happened to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When.
    pub time: u64,
    /// What.
    pub edge: Edge,
    /// Pid of who did it.
    pub pid: u32,
    /// It did so by ending.
    pub exiting: bool,
    /// Bytes of the operation, where it has any.
    pub bytes: u64,
    /// Bytes in the object then.
    pub unread: u64,
}

/// What can happen to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Edge {
    /// First bytes were written.
    FirstWrite,
    /// First bytes were read.
    FirstRead,
    /// The reader was told end-of-file.
    Eof,
    /// The last write end was released.
    WritersGone,
    /// The server's end was released.
    ServerClose,
    /// The session's last end was released.
    SessionClose,
    /// A write failed because no reader was left.
    Refused,
}

impl Edge {
    const fn of(edge: u32) -> Option<Self> {
        Some(match edge {
            edge::FIRST_WRITE => Self::FirstWrite,
            edge::FIRST_READ => Self::FirstRead,
            edge::EOF => Self::Eof,
            edge::WRITERS_GONE => Self::WritersGone,
            edge::SERVER_CLOSE => Self::ServerClose,
            edge::SESSION_CLOSE => Self::SessionClose,
            edge::EPIPE => Self::Refused,
            _ => return None,
        })
    }

    /// In a sentence's words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FirstWrite => "first bytes written",
            Self::FirstRead => "first bytes read",
            Self::Eof => "end-of-file read",
            Self::WritersGone => "last writer gone",
            Self::ServerClose => "closed by the server",
            Self::SessionClose => "closed by the session",
            Self::Refused => "write refused",
        }
    }
}

/// The lanes of a session's observed streams.
pub(super) fn of_start(ends: &[StreamEnds; STREAMS]) -> Vec<Lane> {
    let lane = |(slot, ends): (Slot, &StreamEnds)| Lane {
        transport: transport_name(ends.transport).into(),
        capacity: u64::from(ends.capacity),
        ..Lane::new(slot, ends.object)
    };
    observed(ends).map(lane).collect()
}

impl Lane {
    pub(super) fn new(slot: Slot, object: u64) -> Self {
        Self {
            slot,
            transport: "unknown".into(),
            object,
            capacity: 0,
            points: Vec::new(),
            marks: Vec::new(),
            writes: 0,
            reads: 0,
            high_water: 0,
            blocked_since: None,
        }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.points.last().map_or(0, |point| point.written)
    }

    /// Bytes read so far.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.points.last().map_or(0, |point| point.read)
    }

    /// Bytes that were in the object when that was last seen.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.points.last().map_or(0, |point| point.unread)
    }

    /// The last point up to a moment.
    #[must_use]
    pub fn at(&self, time: u64) -> Option<Point> {
        let after = self.points.partition_point(|point| point.time <= time);
        after.checked_sub(1).map(|at| self.points[at])
    }

    /// Forgets what came later.
    pub(super) fn cut(&mut self, time: u64) {
        self.points.retain(|point| point.time <= time);
        self.marks.retain(|mark| mark.time <= time);
        self.blocked_since = self.blocked_since.filter(|since| *since <= time);
    }

    /// Takes in an edge or a sample.
    pub(super) fn apply(&mut self, record: &tracer_ebpf::Stream, room: usize) {
        if record.object != self.object {
            return;
        }
        self.count(&record.counters);
        let time = record.header.time;
        self.point(
            Point {
                time,
                written: record.counters.written,
                read: record.counters.read,
                unread: record.unread,
            },
            room,
        );
        if let Some(edge) = Edge::of(record.edge)
            && self.marks.len() < MAX_MARKS
        {
            let at = self.marks.partition_point(|mark| mark.time <= time);
            self.marks.insert(
                at,
                Mark {
                    time,
                    edge,
                    pid: record.pid,
                    exiting: record.exiting != 0,
                    bytes: record.bytes,
                    unread: record.unread,
                },
            );
        }
    }

    fn count(&mut self, counters: &Counters) {
        self.writes = self.writes.max(counters.writes);
        self.reads = self.reads.max(counters.reads);
        self.high_water = self.high_water.max(counters.high_water);
        self.blocked_since = Some(counters.blocked_since).filter(|since| *since != 0);
    }

    /// Takes in what a record about the whole session tells of it.
    pub(super) fn now(&mut self, time: u64, now: &StreamNow, room: usize) {
        self.point(
            Point {
                time,
                written: now.written,
                read: now.read,
                unread: now.unread,
            },
            room,
        );
    }

    /// Takes in the ledger.
    pub(super) fn close(&mut self, report: &StreamReport) {
        self.transport = report.transport.clone();
        self.blocked_since = None;
    }

    fn point(&mut self, mut new: Point, room: usize) {
        let Some(last) = self.points.last().copied() else {
            self.points.push(new);
            return;
        };
        // Records of two CPUs may come in the wrong order; sums only grow.
        if new.time < last.time {
            return;
        }
        new.written = new.written.max(last.written);
        new.read = new.read.max(last.read);
        let is_same =
            |at: &Point| (at.written, at.read, at.unread) == (new.written, new.read, new.unread);
        let rests = self.points.len() > 1 && self.points.iter().rev().take(2).all(is_same);
        match self.points.last_mut() {
            Some(last) if rests || last.time == new.time => {
                new.unread = new.unread.max(last.unread);
                *last = new;
            }
            _ => self.points.push(new),
        }
        if self.points.len() > room.clamp(MIN_POINTS, MAX_POINTS) {
            self.thin(room.clamp(MIN_POINTS, MAX_POINTS));
        }
    }

    /// Makes room: what is not recent is spread evenly over its time.
    fn thin(&mut self, room: usize) {
        let recent = RECENT.min(room / 2);
        let old = self.points.len() - recent;
        let wanted = ((room - recent) / 2).max(2) as u64;
        let span = self.points[old - 1].time - self.points[0].time;
        // Doubled as the time grows, never stretched: a boundary stays one, so that what was kept at
        // it is not always replaced by what came after.
        let spacing = (span / wanted).max(1).next_power_of_two();
        let mut kept: Vec<Point> = Vec::with_capacity(room);
        let from = self.points[0].time;
        for point in &self.points[..old] {
            match kept.last_mut() {
                // The very first stays: it is where the sums begin.
                Some(last)
                    if last.time != from
                        && (last.time - from) / spacing == (point.time - from) / spacing =>
                {
                    *last = Point {
                        unread: last.unread.max(point.unread),
                        ..*point
                    };
                }
                _ => kept.push(*point),
            }
        }
        kept.extend_from_slice(&self.points[old..]);
        self.points = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(points: u64, room: usize) -> Lane {
        let mut lane = Lane::new(Slot::Stdout, 7);
        for i in 0..points {
            let point = Point {
                time: i * 250_000_000,
                written: i * 100,
                read: i * 90,
                unread: if i == 1000 { 4096 } else { 1 },
            };
            lane.point(point, room);
        }
        lane
    }

    #[test]
    fn a_day_of_samples_stays_small_and_keeps_its_ends_its_peak_and_its_last_minute() {
        let lane = lane(24 * 3600 * 4, MAX_POINTS);
        assert!(lane.points.len() <= MAX_POINTS, "{}", lane.points.len());
        assert_eq!(lane.points[0].time, 0);
        assert!(lane.points.iter().any(|point| point.unread == 4096));
        let recent = &lane.points[lane.points.len() - RECENT..];
        assert!(
            recent
                .windows(2)
                .all(|two| two[1].time - two[0].time == 250_000_000)
        );
        let widest = lane
            .points
            .windows(2)
            .map(|two| two[1].time - two[0].time)
            .max();
        assert!(
            widest < Some(1_200_000_000_000),
            "no long time without a point: {widest:?}"
        );
        assert!(lane.points.is_sorted_by_key(|point| point.time));
    }

    #[test]
    fn with_little_room_there_are_few_points() {
        assert!(lane(10_000, 0).points.len() <= MIN_POINTS);
    }

    #[test]
    fn a_stream_at_rest_is_two_points() {
        let mut lane = Lane::new(Slot::Stdin, 7);
        for time in 0..1000 {
            let point = Point {
                time,
                written: 5,
                read: 5,
                unread: 0,
            };
            lane.point(point, MAX_POINTS);
        }
        assert_eq!(lane.points.len(), 2);
        assert_eq!(lane.points[1].time, 999);
        assert_eq!(lane.at(500).map(|point| point.time), Some(0));
    }
}
