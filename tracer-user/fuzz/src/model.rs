//! Arbitrary stories on the model, and its lines.

use lastbyte::{
    export::Lines,
    model::{Model, Size, Update, timeline::Timelines},
};
use serde::de::IgnoredAny;
use tracer_ebpf::{Kind, Record};

use super::{
    grammar::Grammar,
    story::{self, Bytes},
};

/// How long everything rests after the story, ns.
const RESTS: u64 = 200_000_000_000;
/// Most ticks that the model may ask for while it rests: a look takes two, and a session is looked
/// at every ten seconds.
const MAX_TICKS: usize = 200;
/// Closed sessions whose timelines are kept.
const CLOSED: usize = 10;
/// Heap beside what each record may take.
const HEAP: usize = 8 << 20;
/// Heap that a record may take: the largest is kept, and told in two forms at once.
const HEAP_PER_RECORD: usize = 16 << 10;

/// Tells the story that `input` is.
pub fn run(input: &[u8]) {
    let (records, peak) = super::measured(|| {
        let (mut road, mut records) = (Road::default(), 0);
        story::tell(input, |bytes| {
            road.apply(bytes);
            records += 1;
        });
        road.rests();
        road.is_bounded(records);
        records
    });
    super::suffices(HEAP + HEAP_PER_RECORD * records, peak);
}

/// What a trace does with records.
struct Road {
    model: Model,
    grammar: Grammar,
    updates: Vec<Update>,
    json: Lines,
    text: Lines,
    timelines: Timelines,
    lines: Vec<String>,
    now: u64,
    /// Time of the last tick.
    ticked: u64,
}

impl Default for Road {
    fn default() -> Self {
        Self {
            model: Model::new(),
            grammar: Grammar::default(),
            updates: Vec::new(),
            json: Lines::new(true, true),
            text: Lines::new(false, true),
            timelines: Timelines::new(CLOSED),
            lines: Vec::new(),
            now: 0,
            ticked: 0,
        }
    }
}

impl Road {
    fn apply(&mut self, bytes: &Bytes) {
        let record = bytes.record();
        let header = record.header();
        self.now = self.now.max(header.time);
        self.grammar.late |= header.time < self.ticked;
        if matches!(record, Record::Tick(_) | Record::Ready(_)) {
            self.ticked = header.time;
        }
        self.model.apply(record, &mut self.updates);
        if matches!(record, Record::Tick(_)) {
            let deadline = self.model.deadline();
            let later = deadline.is_none_or(|time| time > header.time);
            assert!(later, "a tick at {} wants one at {deadline:?}", header.time);
        }
        self.timelines.apply(record, &self.updates);
        for update in self.updates.drain(..) {
            self.grammar.take(&update);
            self.json.of(&update, &mut self.lines);
            self.lines.drain(..).for_each(|line| json(&line));
            self.text.of(&update, &mut self.lines);
            self.lines.drain(..).for_each(|line| shown(&line));
        }
    }

    /// What is kept has bounds, and has reasons.
    fn is_bounded(&self, records: usize) {
        let size = self.model.size();
        assert!(size.is_within(&Size::LIMITS), "{size:?}");
        assert!(size.connections <= size.sessions, "{size:?}");
        // A start tells of a leader, a server and a session; a fork of two processes at most.
        assert!(
            size.sessions <= records && size.processes <= 2 * records,
            "{size:?}"
        );
        assert!(size.servers <= 2 * records, "{size:?}");
        assert!(self.timelines.closed().count() <= CLOSED);
        if size.sessions == 0 {
            assert_eq!(size.processes, 0, "{size:?}");
            assert_eq!(self.model.deadline(), None);
            assert!(!self.model.needs_scan());
            assert_eq!(self.model.open_streams().count(), 0);
        }
    }

    /// The snapshot and the scan that may be under way end, and nothing more happens: the model sees to what is open, and finds nobody who holds anything.
    fn rests(&mut self) {
        self.apply(&story::record(Kind::Ready, self.now));
        self.apply(&story::record(Kind::ScanEnd, self.now));
        let end = self.now.saturating_add(RESTS);
        let most = MAX_TICKS * (1 + self.model.open());
        for _ in 0..most {
            self.apply(&story::record(Kind::Tick, self.now));
            if self.model.needs_scan() {
                self.apply(&story::record(Kind::ScanBegin, self.now));
                self.apply(&story::record(Kind::ScanEnd, self.now));
                continue;
            }
            match self.model.deadline().filter(|time| *time <= end) {
                Some(time) => self.now = self.now.max(time),
                None => return,
            }
        }
        panic!(
            "the model never rests: at {} of {end}, deadline {:?}, scan {}, {} open",
            self.now,
            self.model.deadline(),
            self.model.needs_scan(),
            self.model.open()
        );
    }
}

/// A line for programs is one JSON object with what every object has.
fn json(line: &str) {
    shown(line);
    if let Err(error) = serde_json::from_str::<IgnoredAny>(line) {
        panic!("{error}: {line}");
    }
    // Inside a text the quotes would be escaped.
    for field in [r#"{"type":""#, r#","schema":1,"time":""#, r#","host":""#] {
        assert!(line.contains(field), "no {field}: {line}");
    }
}

/// Nothing in a line acts on a terminal.
fn shown(line: &str) {
    let acts =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let ascii = line.bytes().any(|byte| byte < b' ' || byte == 0x7f);
    let other = !line.is_ascii() && line.contains(acts);
    assert!(!line.is_empty() && !ascii && !other, "{line:?}");
}
