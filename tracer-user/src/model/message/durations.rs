//! Spans and times of day for a person.

/// A time span with two or three digits that matter.
pub(crate) fn duration(ns: u64) -> String {
    let float = ns as f64;
    match ns {
        0..1_000_000 => format!("{:.0} µs", float / 1e3),
        1_000_000..100_000_000 => format!("{:.1} ms", float / 1e6),
        100_000_000..1_000_000_000 => format!("{:.0} ms", float / 1e6),
        1_000_000_000..60_000_000_000 => format!("{:.1} s", float / 1e9),
        _ => {
            let s = ns / 1_000_000_000;
            match s {
                0..3600 => format!("{} min {} s", s / 60, s % 60),
                _ => format!("{} h {} min", s / 3600, s / 60 % 60),
            }
        }
    }
}

/// `12:01:03 UTC`, as sentences have it; what shows them to people makes it a local time.
pub(crate) fn utc_time_of_day(time: u64, wall_offset: u64) -> String {
    let s = time.wrapping_add(wall_offset) / 1_000_000_000 % 86_400;
    format!("{:02}:{:02}:{:02} UTC", s / 3600, s / 60 % 60, s % 60)
}
