//! Moments as people write them on the command line, in local time.

use jiff::{Span, Timestamp, Zoned, civil};

/// Reads a moment that has been. Gives ns since 1970.
///
/// # Errors
/// What is wrong with it, for whoever wrote it.
pub fn past(text: &str) -> Result<u64, String> {
    let now = Zoned::now();
    parse_past(text, &now).and_then(nanoseconds)
}

/// Reads a moment that may be still to come. Gives ns since 1970.
///
/// # Errors
/// What is wrong with it, for whoever wrote it.
pub fn any(text: &str) -> Result<u64, String> {
    parse(text, &Zoned::now()).and_then(nanoseconds)
}

fn parse_past(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    let at = parse(text, now)?;
    if at <= now.timestamp() {
        return Ok(at);
    }
    let shown = at
        .to_zoned(now.time_zone().clone())
        .strftime("%F %T %:z")
        .to_string();
    let hint = match time_of_day(text.trim()) {
        Some(_) => format!("; for the day before: 'yesterday {}'", text.trim()),
        None => String::new(),
    };
    Err(format!("{shown} is in the future{hint}"))
}

/// The one place that knows what a moment may be written as: `now`, `today`, `yesterday`, either of them
/// with a time of day, a time of day, a date, both, RFC 3339, or how long ago. What has no offset of its
/// own is in the time zone of `now`.
fn parse(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    let text = text.trim();
    let lower = text.to_lowercase();
    if let Some(at) = named(&lower, now) {
        return at;
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    if let Some(time) = time_of_day(text) {
        return local(now.date().to_datetime(time), now);
    }
    if let Ok(at) = text.parse::<civil::DateTime>() {
        return local(at, now);
    }
    ago(&lower, now).unwrap_or_else(|| {
        Err(
            "expected a time such as 14:03, today, 'yesterday 14:03', 2026-11-27, '2026-11-27 14:03', \
             '10m ago', 1d, or RFC 3339"
                .to_owned(),
        )
    })
}

/// `now`, and days that have a name.
fn named(text: &str, now: &Zoned) -> Option<Result<Timestamp, String>> {
    let (day, rest) = match text.split_once(' ') {
        Some((day, rest)) => (day, rest.trim()),
        None => (text, ""),
    };
    let day = match day {
        "now" if rest.is_empty() => return Some(Ok(now.timestamp())),
        "today" => Ok(now.date()),
        "yesterday" => now.date().yesterday(),
        _ => return None,
    };
    let time = match rest {
        "" => civil::Time::midnight(),
        rest => time_of_day(rest.strip_prefix("at ").unwrap_or(rest).trim())?,
    };
    Some(
        day.map_err(|error| error.to_string())
            .and_then(|day| local(day.to_datetime(time), now)),
    )
}

/// `14:03`, `14:03:05.5`: not what jiff takes for a time besides, such as `1403` and `T14`.
fn time_of_day(text: &str) -> Option<civil::Time> {
    let is_clock = text.contains(':') && text.starts_with(|c: char| c.is_ascii_digit());
    // A date before it would be ignored.
    if !is_clock || text.contains([' ', '-', 'T', 't']) {
        return None;
    }
    text.parse().ok()
}

/// `10m ago`, `1 hour ago`, `1d`, `-90m`: how long before `now`, days and longer by the calendar.
fn ago(text: &str, now: &Zoned) -> Option<Result<Timestamp, String>> {
    if text.starts_with('+') {
        return None;
    }
    let span: Span = text.parse().ok()?;
    let at = now.checked_sub(span.abs());
    Some(
        at.map(|at| at.timestamp())
            .map_err(|_| "that is too long ago".to_owned()),
    )
}

fn local(at: civil::DateTime, now: &Zoned) -> Result<Timestamp, String> {
    at.to_zoned(now.time_zone().clone())
        .map(|at| at.timestamp())
        .map_err(|error| error.to_string())
}

fn nanoseconds(at: Timestamp) -> Result<u64, String> {
    u64::try_from(at.as_nanosecond()).map_err(|_| "that is before 1970".to_owned())
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    /// Half past two in the afternoon in Berlin, the day after clocks went back.
    fn now() -> Zoned {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a time zone");
        civil::date(2026, 10, 26)
            .at(14, 30, 0, 0)
            .to_zoned(zone)
            .expect("a time")
    }

    #[track_caller]
    fn is(text: &str, utc: &str) {
        let expected: Timestamp = utc.parse().expect("RFC 3339");
        assert_eq!(parse(text, &now()), Ok(expected), "{text}");
    }

    #[test]
    fn how_long_ago() {
        for text in [
            "1 hour ago",
            "1h ago",
            "1h",
            "60m",
            "60 minutes",
            "-1h",
            "1H AGO",
            " 1h ",
        ] {
            is(text, "2026-10-26T12:30:00Z");
        }
        is("10m ago", "2026-10-26T13:20:00Z");
        is("1h30m", "2026-10-26T12:00:00Z");
        is("90s", "2026-10-26T13:28:30Z");
        is("now", "2026-10-26T13:30:00Z");
        is("0s", "2026-10-26T13:30:00Z");
        // The same time of day, though that was 25 hours ago the day before.
        is("1d", "2026-10-25T13:30:00Z");
        is("2 days ago", "2026-10-24T12:30:00Z");
        is("1 week", "2026-10-19T12:30:00Z");
        is("1 month ago", "2026-09-26T12:30:00Z");
    }

    #[test]
    fn days_and_times_are_local() {
        is("14:03", "2026-10-26T13:03:00Z");
        is("14:03:05", "2026-10-26T13:03:05Z");
        is("today", "2026-10-25T23:00:00Z");
        is("today 08:00", "2026-10-26T07:00:00Z");
        is("yesterday", "2026-10-24T22:00:00Z");
        is("yesterday 14:03", "2026-10-25T13:03:00Z");
        is("Yesterday at 14:03", "2026-10-25T13:03:00Z");
        is("2026-10-24", "2026-10-23T22:00:00Z");
        is("2026-10-24 14:03", "2026-10-24T12:03:00Z");
        is("2026-10-24T14:03:05", "2026-10-24T12:03:05Z");
        // Twice that night; the first.
        is("2026-10-25 02:30", "2026-10-25T00:30:00Z");
    }

    #[test]
    fn an_offset_of_its_own_is_kept() {
        is("2026-10-24T14:03:05Z", "2026-10-24T14:03:05Z");
        is("2026-10-24T14:03Z", "2026-10-24T14:03:00Z");
        is("2026-10-24 14:03:05.5-07:00", "2026-10-24T21:03:05.5Z");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "soon",
            "5",
            "+1h",
            "14",
            "25:00",
            "14:61",
            "1403",
            "yesterday noon",
            "today 1h",
            "2026-13-01",
            "2026-10-24 25:00",
            "1 hour hence",
            "ago",
            "now 14:03",
            "T14:03",
        ] {
            let error = parse(text, &now()).expect_err(text);
            assert!(
                error.starts_with("expected a time such as"),
                "{text}: {error}"
            );
        }
        assert!(parse("99999 years", &now()).is_err());
        assert_eq!(
            parse("1960-01-01", &now()).and_then(nanoseconds),
            Err("that is before 1970".to_owned())
        );
    }

    #[test]
    fn what_is_to_come_is_no_past() {
        assert!(parse_past("14:30", &now()).is_ok());
        assert_eq!(
            parse_past("14:31", &now()),
            Err(
                "2026-10-26 14:31:00 +01:00 is in the future; for the day before: 'yesterday 14:31'"
                    .to_owned()
            )
        );
        assert_eq!(
            parse_past("2026-10-27", &now()),
            Err("2026-10-27 00:00:00 +01:00 is in the future".to_owned())
        );
        assert!(parse("14:31", &now()).is_ok());
    }
}
