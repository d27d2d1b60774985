//! What came out of a scenario.

use lastbyte::{
    export::Lines,
    model::{Closed, Finding, Kind, Slot, State, StreamReport, Update},
};

use super::Scenario;

impl Scenario {
    /// Findings of a kind so far.
    pub fn findings(&self, kind: Kind) -> Vec<&Finding> {
        let findings = self.updates.iter().filter_map(|update| match update {
            Update::Finding(finding) => Some(finding),
            _ => None,
        });
        findings.filter(|finding| finding.kind() == kind).collect()
    }

    /// Findings of a kind, each with how many holders it has.
    pub fn course(&self, kind: Kind) -> Vec<(State, usize)> {
        self.findings(kind)
            .iter()
            .filter(|finding| !finding.quiet)
            .map(|finding| (finding.state, finding.holders().len()))
            .collect()
    }

    /// The last words on sessions so far.
    pub fn closed(&self) -> Vec<&Closed> {
        let closed = self.updates.iter().filter_map(|update| match update {
            Update::SessionClosed(closed) => Some(closed),
            _ => None,
        });
        closed.collect()
    }

    /// The last word on the one session.
    pub fn end(&self) -> &Closed {
        match self.closed()[..] {
            [closed] => closed,
            ref other => panic!("closed {} times: {:#?}", other.len(), self.updates),
        }
    }

    /// The report on a stream of the one session.
    pub fn report(&self, slot: Slot) -> &StreamReport {
        self.end()
            .streams
            .iter()
            .find(|report| report.slot == slot)
            .expect("the stream is reported")
    }

    /// What people would read.
    pub fn lines(&self, json: bool, all: bool) -> Vec<String> {
        let mut lines = Lines::new(json, all);
        let mut out = Vec::new();
        self.updates
            .iter()
            .for_each(|update| lines.of(update, &mut out));
        out
    }
}
