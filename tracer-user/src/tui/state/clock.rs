//! The moment that the UI shows: the latest one, or one in the past, paused or playing.

/// The speeds at which the past can be played; 1 is real time.
const SPEEDS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 600.0];

/// See the module. Times are ns of `CLOCK_BOOTTIME`.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Time of the first event; `None` before there is one.
    pub oldest: Option<u64>,
    /// Time of the latest event.
    pub newest: u64,
    at: Position,
    /// Index into [`SPEEDS`].
    speed: usize,
    /// `now` of the last [`advance`](Self::advance).
    advanced: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Position {
    /// Follows the latest event.
    Latest,
    Paused(u64),
    Playing(f64),
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            oldest: None,
            newest: 0,
            at: Position::Latest,
            speed: 4,
            advanced: 0,
        }
    }
}

impl Clock {
    /// Extends the known time to an event.
    pub fn extend_to(&mut self, time: u64) {
        self.newest = self.newest.max(time);
        self.oldest = Some(self.oldest.map_or(time, |oldest| oldest.min(time)));
    }

    /// Advances to `now` (ns of any monotonic clock). True if that changed the moment that is shown.
    pub fn advance(&mut self, now: u64) -> bool {
        let passed = now.saturating_sub(std::mem::replace(&mut self.advanced, now));
        let Position::Playing(at) = self.at else {
            return false;
        };
        let at = at + passed as f64 * self.speed();
        self.at = if at >= self.newest as f64 {
            Position::Latest
        } else {
            Position::Playing(at)
        };
        true
    }

    /// The moment that is shown.
    pub fn now(&self) -> u64 {
        match self.at {
            Position::Latest => self.newest,
            Position::Paused(at) => at,
            Position::Playing(at) => at as u64,
        }
    }

    /// Whether the clock follows the latest event.
    pub fn is_latest(&self) -> bool {
        self.at == Position::Latest
    }

    /// Whether the past is playing.
    pub fn is_playing(&self) -> bool {
        matches!(self.at, Position::Playing(_))
    }

    /// The speed of playing.
    pub fn speed(&self) -> f64 {
        SPEEDS[self.speed]
    }

    /// Goes to a moment and pauses there.
    pub fn seek(&mut self, to: u64) {
        let oldest = self.oldest.unwrap_or(to);
        self.at = Position::Paused(to.clamp(oldest, self.newest.max(oldest)));
    }

    /// Goes forward or back and pauses there.
    pub fn seek_by(&mut self, ns: i64) {
        self.seek(self.now().saturating_add_signed(ns));
    }

    /// Pauses, or plays on from here.
    pub fn pause(&mut self) {
        self.at = match self.at {
            Position::Latest => Position::Paused(self.newest),
            Position::Playing(at) => Position::Paused(at as u64),
            Position::Paused(at) if at >= self.newest => Position::Latest,
            Position::Paused(at) => Position::Playing(at as f64),
        };
    }

    /// Follows the latest event.
    pub fn follow(&mut self) {
        self.at = Position::Latest;
    }

    /// Goes to the first event, playing or paused.
    pub fn rewind(&mut self, playing: bool) {
        let oldest = self.oldest.unwrap_or(self.newest);
        self.at = if playing {
            Position::Playing(oldest as f64)
        } else {
            Position::Paused(oldest)
        };
    }

    /// Changes the speed by so many steps.
    pub fn faster(&mut self, by: i8) {
        let last = SPEEDS.len() - 1;
        self.speed = self.speed.saturating_add_signed(by.into()).min(last);
    }

    /// Sets the speed to the nearest one there is.
    pub fn set_speed(&mut self, speed: f64) {
        let distance = |at: &usize| (SPEEDS[*at].ln() - speed.max(1e-3).ln()).abs();
        let nearest = (0..SPEEDS.len()).min_by(|a, b| distance(a).total_cmp(&distance(b)));
        self.speed = nearest.unwrap_or(self.speed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn clock() -> Clock {
        let mut clock = Clock::default();
        clock.extend_to(100 * S);
        clock.extend_to(200 * S);
        clock
    }

    #[test]
    fn a_pause_keeps_the_moment_while_events_arrive() {
        let mut clock = clock();
        clock.pause();
        clock.extend_to(300 * S);
        assert_eq!(clock.now(), 200 * S);
        assert!(!clock.advance(S) && !clock.is_latest());
        clock.follow();
        assert_eq!(clock.now(), 300 * S);
    }

    #[test]
    fn the_clock_stays_between_the_first_and_the_latest_event() {
        let mut clock = clock();
        clock.seek_by(-500 * S as i64);
        assert_eq!(clock.now(), 100 * S);
        clock.seek_by(500 * S as i64);
        assert_eq!(clock.now(), 200 * S);
    }

    #[test]
    fn playing_at_a_speed_stops_at_the_end() {
        let mut clock = clock();
        clock.advance(7 * S);
        clock.rewind(true);
        clock.set_speed(9.0);
        assert!(clock.advance(8 * S));
        assert_eq!((clock.now(), clock.speed()), (110 * S, 10.0));
        clock.advance(107 * S);
        assert!(clock.is_latest());
    }
}
