//! One line of the chart, cell by cell.

use ratatui::style::Style;
use unicode_width::UnicodeWidthChar as _;

/// Characters with their style. `None` is the second half of a character that is two cells wide.
pub(super) struct Cells(pub(super) Vec<Option<(char, Style)>>);

impl Cells {
    pub(super) fn set(&mut self, column: usize, sign: char, style: Style) {
        if let Some(cell) = self.0.get_mut(column) {
            *cell = Some((sign, style));
        }
    }

    pub(super) fn is_free(&self, column: usize) -> bool {
        let cell = self.0.get(column).copied().flatten();
        cell.is_some_and(|(sign, _)| matches!(sign, ' ' | '┊' | '─'))
    }

    /// Writes text, as much as fits.
    pub(super) fn write(&mut self, column: usize, text: &str, style: Style) {
        let mut at = column;
        for c in text.chars() {
            let wide = c.width().unwrap_or(0);
            if wide == 0 {
                // Drawn with the character before it.
                continue;
            }
            if at + wide > self.0.len() {
                return;
            }
            self.0[at] = Some((c, style));
            if wide == 2 {
                self.0[at + 1] = None;
            }
            at += wide;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_text_stays_within_the_line() {
        let mut cells = Cells(vec![Some((' ', Style::new())); 10]);
        cells.write(5, "日本語日本語", Style::new());
        let text: String = cells.0.iter().flatten().map(|(c, _)| *c).collect();
        assert_eq!(crate::tui::view::width(&text), 10);
        assert_eq!(text.trim(), "日本");
    }
}
