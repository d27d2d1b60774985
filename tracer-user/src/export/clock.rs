//! Wall clock times: local ones for people, UTC for programs.

use std::borrow::Cow;

use jiff::{
    Timestamp, Zoned,
    tz::{Offset, TimeZone},
};

use crate::model::{Finding, message};

/// The time zone that people read times in.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone);

impl Default for Zone {
    /// UTC.
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl Zone {
    /// That of whoever runs this process: `TZ`, else the machine's.
    #[must_use]
    pub fn local() -> Self {
        Self(TimeZone::system())
    }

    /// `22:13:20.123` of a wall clock time in ns since 1970.
    #[must_use]
    pub fn time_of_day(&self, wall: u64) -> String {
        self.at(wall).strftime("%H:%M:%S.%3f").to_string()
    }

    /// `2023-11-14 22:13:20 +01:00` of a wall clock time in ns since 1970.
    #[must_use]
    pub fn date_and_time(&self, wall: u64) -> String {
        let at = self.at(wall);
        format!("{} {}", at.strftime("%F %T"), offset(&at))
    }

    /// What times around this one are read in: `UTC`, `+01:00`.
    #[must_use]
    pub fn label(&self, wall: u64) -> String {
        offset(&self.at(wall))
    }

    fn at(&self, wall: u64) -> Zoned {
        timestamp(wall).to_zoned(self.0.clone())
    }
}

fn offset(at: &Zoned) -> String {
    match at.offset() {
        Offset::UTC => "UTC".to_owned(),
        _ => at.strftime("%:z").to_string(),
    }
}

fn timestamp(wall: u64) -> Timestamp {
    // 2^64 ns reach to the year 2554, jiff to 9999.
    Timestamp::from_nanosecond(i128::from(wall)).unwrap_or_default()
}

/// A finding's sentence with a local time instead of the UTC that it is kept with.
pub(super) fn sentence<'a>(finding: &'a Finding, clock: &Clock) -> Cow<'a, str> {
    let message = finding.message.as_str();
    let Some(exited) = finding.session.exited else {
        return Cow::Borrowed(message);
    };
    let utc = message::utc_time_of_day(exited, clock.offset);
    // Last, as the command before it may hold the same words.
    match message.rsplit_once(&utc) {
        Some((before, after)) => {
            let local = clock.zone.at(clock.wall(exited)).strftime("%T").to_string();
            Cow::Owned(format!("{before}{local}{after}"))
        }
        None => Cow::Borrowed(message),
    }
}

/// Makes wall clock times of `CLOCK_BOOTTIME`.
#[derive(Clone, Debug, Default)]
pub(super) struct Clock {
    /// Wall clock minus `CLOCK_BOOTTIME`, ns.
    pub offset: u64,
    /// Where its reader is.
    pub zone: Zone,
}

impl Clock {
    /// One that only programs read.
    pub fn utc(offset: u64) -> Self {
        Self {
            offset,
            zone: Zone::default(),
        }
    }

    /// RFC 3339 with nine decimals, UTC.
    pub fn rfc3339(&self, time: u64) -> String {
        format!("{:.9}", timestamp(self.wall(time)))
    }

    /// See [`Zone::time_of_day`].
    pub fn time_of_day(&self, time: u64) -> String {
        self.zone.time_of_day(self.wall(time))
    }

    /// See [`Zone::date_and_time`].
    pub fn date_and_time(&self, time: u64) -> String {
        self.zone.date_and_time(self.wall(time))
    }

    /// See [`Zone::label`].
    pub fn label(&self, time: u64) -> String {
        self.zone.label(self.wall(time))
    }

    /// The time of day, with the date when that is not the day of `now`, which is wall clock in ns.
    pub fn recent(&self, time: u64, now: u64) -> String {
        let (at, now) = (self.zone.at(self.wall(time)), self.zone.at(now));
        let format = match at.date() == now.date() {
            true => "%T",
            false => "%F %T",
        };
        at.strftime(format).to_string()
    }

    /// A time before `now`, both of `CLOCK_BOOTTIME`: see [`Clock::recent`].
    pub fn earlier(&self, time: u64, now: u64) -> String {
        self.recent(time, self.wall(now))
    }

    fn wall(&self, time: u64) -> u64 {
        time.wrapping_add(self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn berlin() -> Zone {
        Zone(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a time zone"))
    }

    #[test]
    fn programs_read_utc_to_the_nanosecond() {
        let clock = Clock {
            offset: 1_700_000_000 * S,
            zone: berlin(),
        };
        assert_eq!(
            clock.rfc3339(5_000_000_007),
            "2023-11-14T22:13:25.000000007Z"
        );
        assert_eq!(clock.rfc3339(0), "2023-11-14T22:13:20.000000000Z");
    }

    #[test]
    fn people_read_local_times() {
        let clock = Clock {
            offset: 1_700_000_000 * S,
            zone: berlin(),
        };
        assert_eq!(clock.time_of_day(123_456_789), "23:13:20.123");
        assert_eq!(clock.date_and_time(0), "2023-11-14 23:13:20 +01:00");
        assert_eq!(clock.label(0), "+01:00");
        // In summer it is another.
        assert_eq!(clock.label(200 * 86_400 * S), "+02:00");
        assert_eq!(
            Clock::utc(1_700_000_000 * S).date_and_time(0),
            "2023-11-14 22:13:20 UTC"
        );
    }

    #[test]
    fn another_day_has_its_date() {
        let clock = Clock {
            offset: 0,
            zone: berlin(),
        };
        // Local midnight is an hour before that of UTC.
        let midnight = 86_400 * S - 3600 * S;
        assert_eq!(clock.recent(midnight + 1, midnight + 5), "00:00:00");
        assert_eq!(
            clock.recent(midnight - 1, midnight + 5),
            "1970-01-01 23:59:59"
        );
    }

    #[test]
    fn no_time_is_too_large() {
        assert!(Clock::utc(u64::MAX).rfc3339(0).starts_with("2554-"));
    }
}
