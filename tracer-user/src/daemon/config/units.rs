//! Times and sizes as people write them, on the command line and in the configuration.

use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};

/// From largest to smallest: what a time is written in.
const TIMES: [(u128, &str); 7] = [
    (86_400_000_000_000, "d"),
    (3_600_000_000_000, "h"),
    (60_000_000_000, "m"),
    (1_000_000_000, "s"),
    (1_000_000, "ms"),
    (1_000, "us"),
    (1, "ns"),
];
/// What a size is written in.
const SIZES: [(u64, &str); 5] = [
    (1 << 40, "TiB"),
    (1 << 30, "GiB"),
    (1 << 20, "MiB"),
    (1 << 10, "KiB"),
    (1, "B"),
];
/// Of these powers nothing is ever written.
const DECIMAL_SIZES: [(u64, &str); 4] = [
    (1_000_000_000_000, "TB"),
    (1_000_000_000, "GB"),
    (1_000_000, "MB"),
    (1_000, "kB"),
];

/// `500ms`, `1m30s`, `30d`; a day has 24 hours.
pub fn time(text: &str) -> Option<Duration> {
    let span: Span = text.parse().ok()?;
    let time: SignedDuration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(time).ok()
}

/// The shortest that [`time`] understands as `time`.
pub fn time_text(time: Duration) -> String {
    let mut rest = time.as_nanos();
    let mut out = String::new();
    for (unit, name) in TIMES {
        if rest >= unit {
            out.push_str(&format!("{}{name}", rest / unit));
            rest %= unit;
        }
    }
    match out.is_empty() {
        true => "0s".to_owned(),
        false => out,
    }
}

/// `1 GiB`, `64kB`, `4096`, bytes.
pub fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let (number, unit) = text.split_at(text.len() - digits.len());
    let number: u64 = number.parse().ok()?;
    let unit = unit.trim_start();
    let mut units = SIZES.iter().chain(&DECIMAL_SIZES);
    let factor = match unit {
        "" => 1,
        _ => units.find(|(_, name)| name.eq_ignore_ascii_case(unit))?.0,
    };
    number.checked_mul(factor)
}

/// The shortest that [`size`] understands as `size`.
pub fn size_text(size: u64) -> String {
    let fitting = SIZES
        .iter()
        .find(|(unit, _)| size >= *unit && size.is_multiple_of(*unit));
    let (unit, name) = fitting.unwrap_or(&(1, "B"));
    format!("{} {name}", size / unit)
}

/// A [`size`] that a ring buffer can have: a power of two from 4096.
pub fn ring(text: &str) -> Option<u32> {
    let bytes = u32::try_from(size(text)?).ok()?;
    (bytes.is_power_of_two() && bytes >= 4096).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        for (text, seconds, written) in [
            ("30d", 2_592_000, "30d"),
            ("1d12h", 129_600, "1d12h"),
            ("90s", 90, "1m30s"),
            ("1 hour", 3600, "1h"),
            ("0s", 0, "0s"),
        ] {
            let time = time(text).expect(text);
            assert_eq!(time, Duration::from_secs(seconds));
            assert_eq!(time_text(time), written);
        }
        assert_eq!(time("500ms"), Some(Duration::from_millis(500)));
        for text in ["", "5", "-1s", "soon", "1 month"] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_as_they_are_written() {
        for (text, bytes, written) in [
            ("1 GiB", 1 << 30, "1 GiB"),
            ("1536 MiB", 1536 << 20, "1536 MiB"),
            ("64kb", 64_000, "64000 B"),
            ("4096", 4096, "4 KiB"),
            ("0", 0, "0 B"),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
            assert_eq!(size_text(bytes), written);
            assert_eq!(size(written), Some(bytes));
        }
        for text in ["", "GiB", "1 XB", "-1", "1.5 GiB", "99999999999 TiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn a_ring_is_a_power_of_two() {
        assert_eq!(ring("8 MiB"), Some(8 << 20));
        assert_eq!(ring("2048"), None);
        assert_eq!(ring("5000"), None);
    }
}
