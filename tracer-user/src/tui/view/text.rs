//! Text of an exact width in cells, whatever characters it contains.

use std::borrow::Cow;

use ratatui::{
    style::Style,
    text::{Line, Span},
};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Width of a text in cells.
pub fn width(text: &str) -> usize {
    text.width()
}

/// A text cut to a width, with `…` at its end if it was cut.
pub fn fit(text: &str, cells: usize) -> Cow<'_, str> {
    if text.len() <= cells || width(text) <= cells {
        return Cow::Borrowed(text);
    }
    let Some(room) = cells.checked_sub(1) else {
        return Cow::Borrowed("");
    };
    let (mut used, mut end) = (0, 0);
    for (at, c) in text.char_indices() {
        used += c.width().unwrap_or(0);
        if used > room {
            break;
        }
        end = at + c.len_utf8();
    }
    Cow::Owned(format!("{}…", &text[..end]))
}

/// A text cut or padded to a width, aligned left.
pub fn left(text: &str, cells: usize) -> String {
    let text = fit(text, cells);
    let fill = cells.saturating_sub(width(&text));
    format!("{text}{:fill$}", "")
}

/// A text cut or padded to a width, aligned right.
pub fn right(text: &str, cells: usize) -> String {
    let text = fit(text, cells);
    let fill = cells.saturating_sub(width(&text));
    format!("{:fill$}{text}", "")
}

/// A text in lines of a maximum width, broken between words if possible.
pub fn wrap(text: &str, cells: usize) -> Vec<String> {
    let cells = cells.max(2);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let wide = width(word);
        if used > 0 && used + 1 + wide > cells {
            lines.push(String::new());
            used = 0;
        }
        let Some(mut line) = lines.pop() else {
            continue;
        };
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        for c in word.chars() {
            let c_width = c.width().unwrap_or(0);
            if used + c_width > cells {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(c);
            used += c_width;
        }
        lines.push(line);
    }
    lines
}

/// A label and a text wrapped to its right.
pub fn under(label: Span<'static>, text: &str, style: Style, cells: usize) -> Vec<Line<'static>> {
    let indent = label.width();
    let mut lines = wrap(text, cells.saturating_sub(indent)).into_iter();
    let first = lines.next().unwrap_or_default();
    let mut out = vec![Line::from(vec![label, Span::styled(first, style)])];
    out.extend(lines.map(|line| {
        Line::from(vec![
            Span::raw(" ".repeat(indent)),
            Span::styled(line, style),
        ])
    }));
    out
}

/// A number such as `1.4k`, `22M`: at most five cells.
pub fn count(n: u64) -> String {
    const UNITS: [&str; 6] = ["k", "M", "G", "T", "P", "E"];
    short(n, 1000.0, UNITS)
}

fn short(n: u64, base: f64, units: [&str; 6]) -> String {
    if (n as f64) < base {
        return n.to_string();
    }
    let (mut value, mut unit) = (n as f64 / base, 0);
    while value >= base - 0.5 && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let unit = units[unit];
    if value < 9.95 {
        format!("{value:.1}{unit}")
    } else {
        format!("{value:.0}{unit}")
    }
}

/// Bytes such as `1.4K`, `22M`, by 1024: at most five cells.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    short(n, 1024.0, UNITS)
}

/// A duration such as `0.4s`, `12s`, `3m20`, `2h05`, `4d03`: at most five cells up to years.
pub fn age(ns: u64) -> String {
    let s = ns / 1_000_000_000;
    match s {
        0 if ns < 1_000_000 => format!("{}µs", ns / 1000),
        0 => format!("{}ms", ns / 1_000_000),
        1..10 => format!("{s}.{}s", ns / 100_000_000 % 10),
        10..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}", s / 3600, s / 60 % 60),
        86_400..8_640_000 => format!("{}d{:02}", s / 86_400, s / 3600 % 24),
        _ => format!("{}d", s / 86_400),
    }
}

const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A bar of up to eight eighths; at least one for anything above 0.
pub fn bar(value: f64, most: f64) -> char {
    if value <= 0.0 || most <= 0.0 {
        return BARS[0];
    }
    let eighths = (value / most * 8.0).round().clamp(1.0, 8.0);
    BARS[eighths as usize]
}

/// Bars scaled to the largest value.
pub fn spark(values: &[u64]) -> String {
    let most = values.iter().copied().max().unwrap_or(0) as f64;
    values
        .iter()
        .map(|value| bar(*value as f64, most))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_the_width_asked_for() {
        for text in [
            "",
            "sleep",
            "日本語日本語",
            "🦀🦀🦀🦀",
            "e\u{301}e\u{301}e\u{301}",
            "a日b🦀c",
        ] {
            for cells in 0..12 {
                assert!(width(&fit(text, cells)) <= cells, "{text} in {cells}");
                assert_eq!(width(&left(text, cells)), cells, "{text} in {cells}");
                assert_eq!(width(&right(text, cells)), cells, "{text} in {cells}");
            }
        }
        assert_eq!(fit("日本語", 4), "日…");
        assert_eq!(fit("sleep 20", 8), "sleep 20");
    }

    #[test]
    fn no_wrapped_line_is_too_wide() {
        let text = "the server 日本語日本語日本語 closed averyveryverylongwordindeed 🦀";
        for cells in 2..40 {
            for line in wrap(text, cells) {
                assert!(width(&line) <= cells, "{line:?} in {cells}");
            }
        }
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
    }

    #[test]
    fn numbers_are_short() {
        for n in [0, 999, 1000, 9_949, 9_950, 999_499, 999_500, u64::MAX] {
            assert!(width(&count(n)) <= 5, "{n}: {}", count(n));
            assert!(width(&bytes(n)) <= 5, "{n}: {}", bytes(n));
            assert!(width(&age(n)) <= 7, "{n}: {}", age(n));
        }
        assert_eq!(count(4_000_000), "4.0M");
        assert_eq!(count(22_168), "22k");
        assert_eq!(bytes(1023), "1023");
        assert_eq!(bytes(1024), "1.0K");
        assert_eq!(bytes(22_168), "22K");
        assert_eq!(bytes(1_048_575), "1.0M");
        assert_eq!(bytes(4 << 30), "4.0G");
        assert_eq!(age(200_000_000_000), "3m20");
        assert_eq!(spark(&[0, 1, 8, 4]), " ▁█▄");
    }
}
