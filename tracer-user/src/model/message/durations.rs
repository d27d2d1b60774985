//! Spans and times of day for a person.

use crate::model::Env;

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

/// hh:mm:ss in UTC.
pub(super) fn time_of_day(time: u64, env: &Env) -> String {
    let s = time.wrapping_add(env.wall_offset) / 1_000_000_000 % 86_400;
    format!("{:02}:{:02}:{:02} UTC", s / 3600, s / 60 % 60, s % 60)
}
