//! Round times for the axis.

/// The smallest of 1, 2, 5, 10, 20, … that is not less than `ns`.
pub(super) fn round_up(ns: u64) -> u64 {
    let mut unit = 1u64;
    loop {
        for step in [1, 2, 5] {
            if unit.saturating_mul(step) >= ns {
                return unit.saturating_mul(step).max(1);
            }
        }
        match unit.checked_mul(10) {
            Some(next) => unit = next,
            None => return u64::MAX,
        }
    }
}

/// A time in its largest fitting unit, without trailing zeros.
pub(super) fn round(ns: u64) -> String {
    let trimmed = |value: f64| {
        let text = format!("{value:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match ns {
        0..1_000_000 => format!("{} µs", trimmed(ns as f64 / 1e3)),
        1_000_000..1_000_000_000 => format!("{} ms", trimmed(ns as f64 / 1e6)),
        1_000_000_000..600_000_000_000 => format!("{} s", trimmed(ns as f64 / 1e9)),
        600_000_000_000..36_000_000_000_000 => format!("{} min", trimmed(ns as f64 / 60e9)),
        _ => format!("{} h", trimmed(ns as f64 / 3600e9)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (ns, step) in [(0, 1), (1, 1), (3, 5), (11, 20), (260_000_000, 500_000_000)] {
            assert_eq!(round_up(ns), step);
        }
        assert_eq!(round_up(u64::MAX), u64::MAX);
        assert_eq!(round(1_500_000_000), "1.5 s");
        assert_eq!(round(200_000_000), "200 ms");
    }
}
