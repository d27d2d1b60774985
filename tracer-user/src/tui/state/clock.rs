//! Which moment is shown: the latest, or one in the past.

/// Fastest and slowest that the past is played.
const SPEEDS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 600.0];

/// See the module. Times are ns of `CLOCK_BOOTTIME`.
#[derive(Clone, Debug)]
pub struct Clock {
    /// What is known begins here.
    pub oldest: Option<u64>,
    /// What is known ends here.
    pub newest: u64,
    at: At,
    speed: usize,
    /// When time was last let pass.
    told: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    /// Whatever is the latest.
    Newest,
    Paused(u64),
    Playing(f64),
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            oldest: None,
            newest: 0,
            at: At::Newest,
            speed: 4,
            told: 0,
        }
    }
}

impl Clock {
    /// Something happened then.
    pub fn saw(&mut self, time: u64) {
        self.newest = self.newest.max(time);
        self.oldest = Some(self.oldest.map_or(time, |oldest| oldest.min(time)));
    }

    /// Lets time pass until `now`, of any clock that goes on. True when another moment is shown.
    pub fn pass(&mut self, now: u64) -> bool {
        let passed = now.saturating_sub(std::mem::replace(&mut self.told, now));
        let At::Playing(at) = self.at else {
            return false;
        };
        let at = at + passed as f64 * self.speed();
        self.at = if at >= self.newest as f64 {
            At::Newest
        } else {
            At::Playing(at)
        };
        true
    }

    /// The moment that is shown.
    pub fn now(&self) -> u64 {
        match self.at {
            At::Newest => self.newest,
            At::Paused(at) => at,
            At::Playing(at) => at as u64,
        }
    }

    /// Whether the latest moment is shown, whatever that will be.
    pub fn is_newest(&self) -> bool {
        self.at == At::Newest
    }

    /// Whether the past goes by.
    pub fn is_playing(&self) -> bool {
        matches!(self.at, At::Playing(_))
    }

    /// How fast.
    pub fn speed(&self) -> f64 {
        SPEEDS[self.speed]
    }

    /// Shows another moment, and stays there.
    pub fn go(&mut self, to: u64) {
        let oldest = self.oldest.unwrap_or(to);
        self.at = At::Paused(to.clamp(oldest, self.newest.max(oldest)));
    }

    /// Shows a moment before or after the one that is shown.
    pub fn by(&mut self, ns: i64) {
        self.go(self.now().saturating_add_signed(ns));
    }

    /// Stops, or goes on from here.
    pub fn pause(&mut self) {
        self.at = match self.at {
            At::Newest => At::Paused(self.newest),
            At::Playing(at) => At::Paused(at as u64),
            At::Paused(at) if at >= self.newest => At::Newest,
            At::Paused(at) => At::Playing(at as f64),
        };
    }

    /// Shows whatever is the latest.
    pub fn newest(&mut self) {
        self.at = At::Newest;
    }

    /// Plays from the beginning, once there is one.
    pub fn rewind(&mut self, playing: bool) {
        let oldest = self.oldest.unwrap_or(self.newest);
        self.at = if playing {
            At::Playing(oldest as f64)
        } else {
            At::Paused(oldest)
        };
    }

    /// Plays faster, or slower.
    pub fn faster(&mut self, by: i8) {
        let last = SPEEDS.len() - 1;
        self.speed = self.speed.saturating_add_signed(by.into()).min(last);
    }

    /// Plays as fast as that, or the nearest there is.
    pub fn set_speed(&mut self, speed: f64) {
        let off = |at: &usize| (SPEEDS[*at].ln() - speed.max(1e-3).ln()).abs();
        let nearest = (0..SPEEDS.len()).min_by(|a, b| off(a).total_cmp(&off(b)));
        self.speed = nearest.unwrap_or(self.speed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn clock() -> Clock {
        let mut clock = Clock::default();
        clock.saw(100 * S);
        clock.saw(200 * S);
        clock
    }

    #[test]
    fn a_pause_holds_the_moment_while_more_happens() {
        let mut clock = clock();
        clock.pause();
        clock.saw(300 * S);
        assert_eq!(clock.now(), 200 * S);
        assert!(!clock.pass(S) && !clock.is_newest());
        clock.newest();
        assert_eq!(clock.now(), 300 * S);
    }

    #[test]
    fn no_moment_is_shown_of_which_nothing_is_known() {
        let mut clock = clock();
        clock.by(-500 * S as i64);
        assert_eq!(clock.now(), 100 * S);
        clock.by(500 * S as i64);
        assert_eq!(clock.now(), 200 * S);
    }

    #[test]
    fn the_past_is_played_at_its_speed_until_the_end() {
        let mut clock = clock();
        clock.pass(7 * S);
        clock.rewind(true);
        clock.set_speed(9.0);
        assert!(clock.pass(8 * S));
        assert_eq!((clock.now(), clock.speed()), (110 * S, 10.0));
        clock.pass(107 * S);
        assert!(clock.is_newest());
    }
}
