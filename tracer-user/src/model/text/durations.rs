//! Time spans, counts and times of day for a person.

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

/// A count with its noun: `1 session`, `2 processes`.
pub(crate) fn counted(n: u64, noun: &str) -> String {
    let ending = match (n, noun.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{n} {noun}{ending}")
}

/// `12:01:03 UTC`, as sentences have it; what shows them to people makes it a local time.
pub(crate) fn utc_time_of_day(time: u64, wall_offset: u64) -> String {
    let s = time.wrapping_add(wall_offset) / 1_000_000_000 % 86_400;
    format!("{:02}:{:02}:{:02} UTC", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_agrees_with_its_noun() {
        assert_eq!(counted(0, "session"), "0 sessions");
        assert_eq!(counted(1, "session"), "1 session");
        assert_eq!(counted(2, "session"), "2 sessions");
        assert_eq!(counted(1, "process"), "1 process");
        assert_eq!(counted(3, "process"), "3 processes");
    }
}
