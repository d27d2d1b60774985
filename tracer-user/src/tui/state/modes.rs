//! Where the user is and what keys do there: views, modes, popups; and the effects that commands have
//! outside the state.

use crate::model::HolderView;

/// A view, in the order of their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The list of sessions.
    Sessions,
    /// One session.
    Session,
    /// The list of findings.
    Findings,
    /// The host and its tracer.
    Host,
}

impl View {
    /// All views, in order.
    pub const ALL: [Self; 4] = [Self::Sessions, Self::Session, Self::Findings, Self::Host];

    /// The name in the title bar.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sessions => "Sessions",
            Self::Session => "Session",
            Self::Findings => "Findings",
            Self::Host => "Host",
        }
    }

    /// The view `steps` further on, from the last one back to the first.
    pub(super) fn after(self, steps: usize) -> Self {
        Self::ALL[(self as usize + steps) % Self::ALL.len()]
    }
}

/// What keys do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Navigate.
    Viewing,
    /// Edit the filter.
    Typing,
    /// Scroll a popup.
    Reading,
    /// Choose what to copy.
    Copying,
    /// Answer whether to send a signal.
    Confirming,
}

/// A window above the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Popup {
    /// The keys.
    Help,
    /// The explanation of the selected session.
    Explain,
    /// The choice of what to copy.
    Copy,
    /// The question whether to send a signal.
    Confirm(Box<Target>),
}

/// The processes that may be sent a signal, and the chosen one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub holders: Vec<HolderView>,
    /// Index of the chosen one.
    pub at: usize,
}

impl Target {
    /// The chosen process.
    pub fn holder(&self) -> Option<&HolderView> {
        self.holders.get(self.at)
    }
}

/// What a command leaves for `run` to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Copy this text to the terminal's clipboard.
    Copy(String),
    /// Write a new file.
    Write {
        name: String,
        text: String,
    },
    /// Send SIGTERM to a process if it is still the same one.
    Terminate {
        pid: u32,
        /// Its start time, ns of `CLOCK_BOOTTIME`.
        start: u64,
    },
    /// Stop the process until SIGCONT.
    Suspend,
    /// Draw the whole screen again.
    Redraw,
    Quit,
}

/// The part of a view's lines that is on the screen. Drawing sets it; scrolling and clicks need it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Viewport {
    /// Lines that fit.
    pub page: usize,
    /// Lines in all.
    pub lines: usize,
    /// Index of the first visible line.
    pub first: usize,
    /// Its row on the screen.
    pub top: u16,
}
