//! The earliest moment at which something is due.

/// When to settle a session again, if at all.
#[derive(Debug, Default)]
pub(in crate::model) struct Alarm(Option<u64>);

impl Alarm {
    /// The earliest time that was asked for, ns.
    pub const fn time(&self) -> Option<u64> {
        self.0
    }

    /// Asks for `time`, ns.
    pub fn at(&mut self, time: u64) {
        self.0 = Some(self.0.map_or(time, |next| next.min(time)));
    }

    /// Whether `time` has come; if not, asks for it.
    pub fn reached(&mut self, time: u64, now: u64) -> bool {
        if time > now {
            self.at(time);
        }
        time <= now
    }
}
