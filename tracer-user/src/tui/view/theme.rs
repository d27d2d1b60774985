//! Colours and signs. Every colour is readable on light and on dark backgrounds, and none carries a meaning
//! alone: the same is always said by a sign or a word.

use ratatui::style::{Color, Modifier, Style};

use crate::{
    model::{Kind, State},
    tui::state::row::{Condition, Outcome},
};

/// Of the 256 colours, bright enough for a black background and dark enough for a white one.
const RED: Color = Color::Indexed(160);
const ORANGE: Color = Color::Indexed(166);
const GREEN: Color = Color::Indexed(28);
const BLUE: Color = Color::Indexed(32);
const MAGENTA: Color = Color::Indexed(163);
const CYAN: Color = Color::Indexed(31);
const GREY: Color = Color::Indexed(243);

/// The styles; without colours if `NO_COLOR` is set.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    colours: bool,
}

impl Theme {
    pub const fn new(colours: bool) -> Self {
        Self { colours }
    }

    fn of(self, colour: Color) -> Style {
        if self.colours {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    pub fn plain(self) -> Style {
        Style::new()
    }

    /// Less important text.
    pub fn faint(self) -> Style {
        if self.colours {
            self.of(GREY)
        } else {
            Style::new().add_modifier(Modifier::DIM)
        }
    }

    pub fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Headings.
    pub fn heading(self) -> Style {
        self.of(BLUE).add_modifier(Modifier::BOLD)
    }

    /// The selected line: reversed, without the colours it had, as those would become backgrounds.
    pub fn selected(self) -> Style {
        match self.colours {
            true => Style::new().fg(Color::Reset),
            false => Style::new(),
        }
        .add_modifier(Modifier::REVERSED)
    }

    pub fn key(self) -> Style {
        self.of(CYAN).add_modifier(Modifier::BOLD)
    }

    pub fn good(self) -> Style {
        self.of(GREEN)
    }

    pub fn bad(self) -> Style {
        self.of(RED).add_modifier(Modifier::BOLD)
    }

    pub fn warning(self) -> Style {
        self.of(ORANGE).add_modifier(Modifier::BOLD)
    }

    /// Bytes written.
    pub fn written(self) -> Style {
        self.of(BLUE)
    }

    /// Bytes read.
    pub fn read(self) -> Style {
        self.of(GREEN)
    }

    /// Unread bytes.
    pub fn unread(self) -> Style {
        self.of(ORANGE)
    }

    /// Holders.
    pub fn holder(self) -> Style {
        self.of(MAGENTA).add_modifier(Modifier::BOLD)
    }

    pub fn process(self) -> Style {
        self.of(CYAN)
    }

    pub fn condition(self, condition: Condition) -> Style {
        match condition {
            Condition::Orphaned => self.holder(),
            Condition::Stalled | Condition::Waiting => self.warning(),
            Condition::Ending => self.of(BLUE),
            Condition::Running => self.good(),
            Condition::Closed => self.faint(),
        }
    }

    pub fn outcome(self, outcome: Outcome) -> Style {
        match outcome {
            Outcome::Truncated => self.bad(),
            Outcome::Unknown => self.warning(),
            Outcome::ClientGone => self.plain(),
            Outcome::NearMiss => self.of(BLUE),
            Outcome::Clean => self.good(),
            Outcome::Open => self.faint(),
        }
    }

    pub fn finding(self, kind: Kind, state: State) -> Style {
        match (state, kind) {
            (State::Resolved, _) => self.good(),
            (_, Kind::Truncated) => self.bad(),
            (_, Kind::Orphaned) => self.holder(),
            (_, Kind::Stalled | Kind::Waiting) => self.warning(),
            (_, Kind::NearMiss) => self.of(BLUE),
        }
    }
}

/// The sign of a condition.
pub const fn sign(condition: Condition) -> &'static str {
    match condition {
        Condition::Orphaned => "▲",
        Condition::Stalled => "■",
        Condition::Waiting => "◆",
        Condition::Ending => "○",
        Condition::Running => "●",
        Condition::Closed => "·",
    }
}

/// The sign of an outcome.
pub const fn outcome_sign(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Truncated => "✗",
        Outcome::Unknown => "?",
        Outcome::ClientGone => "←",
        Outcome::NearMiss => "≈",
        Outcome::Clean => "✓",
        Outcome::Open => " ",
    }
}

/// The sign of a kind of finding.
pub const fn kind_sign(kind: Kind) -> &'static str {
    match kind {
        Kind::Truncated => "✗",
        Kind::Orphaned => "▲",
        Kind::Stalled => "■",
        Kind::Waiting => "◆",
        Kind::NearMiss => "≈",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The colour cube and the greys of xterm's 256 colours.
    fn rgb(colour: Color) -> [f64; 3] {
        let Color::Indexed(index) = colour else {
            panic!("{colour:?} has no fixed value");
        };
        let step = |n: u8| f64::from([0, 95, 135, 175, 215, 255][usize::from(n)]) / 255.0;
        match index {
            16..232 => {
                let n = index - 16;
                [step(n / 36), step(n / 6 % 6), step(n % 6)]
            }
            232.. => [f64::from(8 + 10 * u16::from(index - 232)) / 255.0; 3],
            _ => panic!("{index} has no fixed value"),
        }
    }

    /// Relative luminance as defined by WCAG.
    fn luminance(colour: Color) -> f64 {
        let linear = |c: f64| match c <= 0.03928 {
            true => c / 12.92,
            false => ((c + 0.055) / 1.055).powf(2.4),
        };
        let [r, g, b] = rgb(colour).map(linear);
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }

    #[test]
    fn every_colour_can_be_read_on_black_and_on_white() {
        for colour in [RED, ORANGE, GREEN, BLUE, MAGENTA, CYAN, GREY] {
            let l = luminance(colour);
            let (on_black, on_white) = ((l + 0.05) / 0.05, 1.05 / (l + 0.05));
            assert!(on_black >= 3.5, "{colour:?} on black: {on_black}");
            assert!(on_white >= 3.5, "{colour:?} on white: {on_white}");
        }
    }

    #[test]
    fn without_colours_there_are_none() {
        let theme = Theme::new(false);
        for style in [
            theme.bad(),
            theme.faint(),
            theme.holder(),
            theme.selected(),
            theme.warning(),
        ] {
            assert_eq!((style.fg, style.bg), (None, None));
        }
    }
}
