//! Lines for people on stdout: sizes as people read them, and on a terminal coloured and wrapped between
//! words. What is made for a program, or to be pasted, stays as it is.

use std::{
    borrow::Cow,
    io::{self, BufWriter, IsTerminal as _, StdoutLock, Write as _},
    sync::LazyLock,
};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use regex::Regex;
use unicode_width::UnicodeWidthStr as _;

use crate::{
    export::readable,
    tui::{fit, wrap},
};

/// Narrowest that a table's last column gets, in cells.
const LAST_COLUMN: usize = 20;
/// Where the text of a line of `watch` begins, behind the time and what it is about.
const WATCH_TEXT: usize = 23;

/// See the module.
pub struct Printer {
    how: How,
    out: BufWriter<StdoutLock<'static>>,
}

/// How lines are shown.
#[derive(Clone, Copy, Debug, Default)]
struct How {
    /// For programs: nothing is changed.
    raw: bool,
    /// Sizes in bytes, whatever their size.
    exact: bool,
    coloured: bool,
    /// Cells of the terminal.
    cells: Option<usize>,
}

impl Printer {
    /// For people, or with `json` for programs; `bytes`: exact sizes.
    pub fn new(json: bool, bytes: bool) -> Self {
        let stdout = io::stdout();
        let coloured = !matches!(AutoStream::choice(&stdout), ColorChoice::Never);
        let size = rustix::termios::tcgetwinsize(&stdout).ok();
        let cells = size.map(|size| usize::from(size.ws_col));
        Self {
            how: How {
                raw: json,
                exact: bytes,
                coloured,
                cells: cells.filter(|cells| *cells > 0 && stdout.is_terminal()),
            },
            out: BufWriter::new(stdout.lock()),
        }
    }

    /// Prints one line.
    pub fn line(&mut self, line: &str) -> io::Result<()> {
        match self.how.raw {
            true => writeln!(self.out, "{line}"),
            false => writeln!(self.out, "{}", self.how.shown(line)),
        }
    }

    /// Prints a table, whose first line is its head and whose last column may be cut.
    pub fn table(&mut self, lines: &[String]) -> io::Result<()> {
        for line in self.how.table(lines) {
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl How {
    fn shown(self, line: &str) -> String {
        let (label, style) = label(line);
        let is_pasted = ["now", "next time"]
            .iter()
            .any(|it| line[label.clone()].starts_with(it));
        let text = match self.exact || is_pasted {
            true => Cow::Borrowed(line),
            false => readable(line),
        };
        let mut lines = match self.cells {
            // A line end would be pasted too: the terminal breaks it, without one.
            Some(cells) if !is_pasted && text.width() > cells => wrapped(&text, cells),
            _ => vec![text.into_owned()],
        };
        if let Some(first) = lines.first_mut()
            && self.coloured
            && first.is_char_boundary(label.end.min(first.len()))
        {
            let end = label.end.min(first.len());
            let start = label.start.min(end);
            *first = format!(
                "{}{style}{}{style:#}{}",
                &first[..start],
                &first[start..end],
                &first[end..]
            );
        }
        lines.join("\n")
    }

    fn table(self, lines: &[String]) -> Vec<String> {
        let [head, rows @ ..] = lines else {
            return Vec::new();
        };
        let last = head.trim_end().rfind("  ").map_or(0, |at| at + 2);
        let cells = self.cells.map(|cells| cells.max(last + LAST_COLUMN));
        let cut = |line: &String| match cells {
            Some(cells) => fit(line, cells).into_owned(),
            None => line.clone(),
        };
        let bold = Style::new().bold();
        let mut out = vec![match self.coloured {
            true => format!("{bold}{}{bold:#}", cut(head)),
            false => cut(head),
        }];
        out.extend(rows.iter().map(|row| {
            let row = cut(row);
            let state = STATES.iter().find_map(|(word, style)| {
                let at = row.find(&format!("  {word}"))? + 2;
                Some((at..at + word.len(), style))
            });
            match state.filter(|_| self.coloured) {
                Some((at, style)) => format!(
                    "{}{style}{}{style:#}{}",
                    &row[..at.start],
                    &row[at.clone()],
                    &row[at.end..]
                ),
                None => row,
            }
        }));
        out
    }
}

const BAD: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const FAINT: Style = Style::new().dimmed();

/// How a session may be, and in which colour it is shown; none says anything alone.
const STATES: [(&str, Style); 5] = [
    ("truncated", BAD),
    ("orphaned", WARNING),
    ("stalled", WARNING),
    ("waiting", WARNING),
    ("unknown", WARNING),
];

/// Which part of a line says what it is about, and how it is shown.
fn label(line: &str) -> (std::ops::Range<usize>, Style) {
    static OF_WATCH: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^\d\d:\d\d:\d\d\.\d{3} (near miss|\w+)").ok());
    static OF_PART: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let words = "now|next time|advice|note|holder|truncated|orphaned|stalled|waiting|near_miss";
        Regex::new(&format!(r"^\s*((?:{words})(?: \([^:]*\))?)[: ]")).ok()
    });
    let find = |of: &LazyLock<Option<Regex>>| of.as_ref()?.captures(line)?.get(1);
    let Some(found) = find(&OF_WATCH).or_else(|| find(&OF_PART)) else {
        return (0..0, Style::new());
    };
    let style = match found.as_str() {
        "TRUNCATED" | "GAP" | "truncated" => BAD,
        "ORPHANED" | "STALLED" | "WAITING" | "orphaned" | "stalled" | "waiting" => WARNING,
        "released" | "resolved" => GOOD,
        text if find(&OF_WATCH).is_some() || text.starts_with("holder") => FAINT,
        _ => GOOD.bold(),
    };
    (found.range(), style)
}

/// The line in lines of so many cells, broken between words, those after the first indented.
fn wrapped(line: &str, cells: usize) -> Vec<String> {
    let spaces = line.len() - line.trim_start().len();
    let is_watch = !label(line).0.is_empty() && line.starts_with(|c: char| c.is_ascii_digit());
    let indent = match (is_watch, line.split_once("  ")) {
        (true, _) => WATCH_TEXT,
        // A moment of `show`: `+0.001 s  text`.
        (false, Some((time, _))) if time.trim_start().starts_with('+') => time.len() + 2,
        _ => spaces + 2,
    };
    let indent = if indent * 2 > cells {
        spaces.min(4)
    } else {
        indent
    };
    // Of one cell each: spaces, digits, signs.
    let (head, rest) = match line.is_char_boundary(indent) && line[..indent].is_ascii() {
        true => line.split_at(indent),
        false => ("", line),
    };
    let mut lines = wrap(rest, cells.saturating_sub(indent));
    for (at, line) in lines.iter_mut().enumerate() {
        *line = match at {
            0 => format!("{head}{line}"),
            _ => format!("{:indent$}{line}", ""),
        };
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON_A_TERMINAL: How = How {
        raw: false,
        exact: false,
        coloured: true,
        cells: Some(60),
    };

    #[test]
    fn long_lines_break_between_words_under_their_text() {
        let line = "09:14:10.562 ORPHANED  session 7537 (alice) `sleep` exited 0, but the connection waits";
        let shown = ON_A_TERMINAL.shown(line);
        let plain = anstream::adapter::strip_str(&shown).to_string();
        assert_eq!(
            plain.lines().collect::<Vec<_>>(),
            [
                "09:14:10.562 ORPHANED  session 7537 (alice) `sleep` exited",
                "                       0, but the connection waits",
            ]
        );
        assert!(shown.starts_with("09:14:10.562 \u{1b}["), "{shown:?}");
    }

    #[test]
    fn what_is_pasted_stays_in_one_line() {
        let line = format!(
            "            next time: {} 5000 B </dev/null &",
            "x ".repeat(60)
        );
        let shown = ON_A_TERMINAL.shown(&line);
        assert_eq!(anstream::adapter::strip_str(&shown).to_string(), line);
    }

    #[test]
    fn a_tables_last_column_is_cut_but_never_below_its_least() {
        let table = |cells| {
            let how = How {
                cells: Some(cells),
                ..How::default()
            };
            let row = format!("{}  {}", "a".repeat(30), "b".repeat(90));
            how.table(&[format!("{:<30}  COMMAND", "ID"), row])[1].clone()
        };
        assert_eq!(table(80).width(), 80);
        assert_eq!(table(40).width(), 52, "20 for the command");
    }
}
