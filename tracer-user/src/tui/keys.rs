//! The key table: which key runs which command, in which view and mode. The help popup and the footer
//! are drawn from the same table. Knows no terminal library: `run` translates its events to [`Press`].

use super::state::{Mode, View};

/// What a user can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Switches to a view.
    Show(View),
    NextView,
    PreviousView,
    /// Moves the selection, or scrolls, by so many lines.
    Move(i32),
    /// Moves by so many half pages.
    Page(i32),
    Top,
    Bottom,
    /// Moves the visible part of the history by so many eighths of its width.
    Pan(i32),
    /// Zooms in (positive) or out (negative).
    Zoom(i32),
    ZoomReset,
    Open,
    Back,
    Filter,
    Sort,
    Reverse,
    Group,
    /// Shows only findings of the next kind.
    NextKind,
    /// Shows or hides routine findings.
    ToggleRoutine,
    Pause,
    /// Goes to the next (positive) or previous (negative) event.
    Step(i32),
    /// Goes forward or back by so many seconds.
    Seek(i32),
    NextFinding,
    PreviousFinding,
    Latest,
    Faster,
    Slower,
    Explain,
    Copy,
    CopyFix,
    CopyPid,
    CopyJson,
    CopyMessage,
    Export,
    Signal,
    Confirm,
    Help,
    Quit,
    Suspend,
    Redraw,
    /// Appends a character to the text being typed.
    Type(char),
    Erase,
    EraseAll,
}

/// A key press, without the modifiers that make no difference here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Press {
    Char(char),
    /// A letter pressed together with Control.
    Control(char),
    Enter,
    Esc,
    Backspace,
    Tab,
    BackTab,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    /// A function key by its number.
    Function(u8),
}

/// One row of the key table.
pub struct Binding {
    /// The keys, as the help shows them.
    pub keys: &'static str,
    /// What they do, in a few words.
    pub does: &'static str,
    presses: &'static [(Press, Command)],
}

macro_rules! bindings {
    ($($keys:literal, $does:literal, [$($press:expr => $command:expr),+ $(,)?];)+) => {
        &[$(Binding { keys: $keys, does: $does, presses: &[$(($press, $command)),+] }),+]
    };
}

use Press::{Char, Control};

/// In every view.
const EVERYWHERE: &[Binding] = bindings! {
    "1 2 3 4", "show sessions, session, findings, host", [
        Char('1') => Command::Show(View::Sessions), Char('2') => Command::Show(View::Session),
        Char('3') => Command::Show(View::Findings), Char('4') => Command::Show(View::Host)];
    "Tab", "next view (Shift-Tab: previous)", [
        Press::Tab => Command::NextView, Press::BackTab => Command::PreviousView];
    "e", "explain the session", [Char('e') => Command::Explain];
    "y", "copy the fix, pid, message or session (JSON)", [Char('y') => Command::Copy];
    "w", "write the session to a file (JSON lines)", [Char('w') => Command::Export];
    "K", "send SIGTERM to a holder (needs --allow-signals)", [Char('K') => Command::Signal];
    "?", "show the keys", [Char('?') => Command::Help, Press::Function(1) => Command::Help];
    "q", "quit", [Char('q') => Command::Quit, Control('c') => Command::Quit];
    "^Z", "suspend", [Control('z') => Command::Suspend];
    "^L", "redraw", [Control('l') => Command::Redraw];
};

/// In every view: which moment is shown.
const TIME: &[Binding] = bindings! {
    "space", "pause or play", [Char(' ') => Command::Pause];
    "n N", "next, previous finding", [
        Char('n') => Command::NextFinding, Char('N') => Command::PreviousFinding];
    ". ,", "next, previous event", [
        Char('.') => Command::Step(1), Char(',') => Command::Step(-1)];
    "] [", "forward, back 10 s (} { 1 min)", [
        Char(']') => Command::Seek(10), Char('[') => Command::Seek(-10),
        Char('}') => Command::Seek(60), Char('{') => Command::Seek(-60)];
    "> <", "play faster, slower", [Char('>') => Command::Faster, Char('<') => Command::Slower];
    "L", "jump to the latest moment", [Char('L') => Command::Latest];
};

/// In views with a list.
const LIST: &[Binding] = bindings! {
    "↑ ↓ k j", "up, down", [
        Press::Up => Command::Move(-1), Press::Down => Command::Move(1),
        Char('k') => Command::Move(-1), Char('j') => Command::Move(1)];
    "PgUp PgDn", "page up, down (^U ^D half a page)", [
        Press::PageUp => Command::Page(-2), Press::PageDown => Command::Page(2),
        Control('b') => Command::Page(-2), Control('f') => Command::Page(2),
        Control('u') => Command::Page(-1), Control('d') => Command::Page(1)];
    "g G", "first, last", [
        Char('g') => Command::Top, Press::Home => Command::Top,
        Char('G') => Command::Bottom, Press::End => Command::Bottom];
};

const SESSIONS: &[Binding] = bindings! {
    "⏎ l", "open the session", [
        Press::Enter => Command::Open, Char('l') => Command::Open, Press::Right => Command::Open];
    "/", "filter by user, peer, command, id, state", [Char('/') => Command::Filter];
    "s r", "sort by the next column, reverse the order", [
        Char('s') => Command::Sort, Char('r') => Command::Reverse];
    "b", "group by user, peer, verdict", [Char('b') => Command::Group];
    "Esc", "clear the filter", [Press::Esc => Command::Back];
};

const SESSION: &[Binding] = bindings! {
    "+ -", "zoom in, out", [
        Char('+') => Command::Zoom(1), Char('=') => Command::Zoom(1), Char('-') => Command::Zoom(-1)];
    "← → h l", "earlier, later", [
        Press::Left => Command::Pan(-1), Press::Right => Command::Pan(1),
        Char('h') => Command::Pan(-1), Char('l') => Command::Pan(1)];
    "0", "show the whole history", [Char('0') => Command::ZoomReset];
    "Esc", "back to the list", [Press::Esc => Command::Back, Press::Backspace => Command::Back];
};

const FINDINGS: &[Binding] = bindings! {
    "⏎ l", "open the session", [
        Press::Enter => Command::Open, Char('l') => Command::Open, Press::Right => Command::Open];
    "f", "show only the next kind", [Char('f') => Command::NextKind];
    "a", "show or hide near misses and clients that left", [Char('a') => Command::ToggleRoutine];
};

/// While a popup is open.
const POPUP: &[Binding] = bindings! {
    "Esc", "close", [
        Press::Esc => Command::Back, Char('q') => Command::Back, Press::Enter => Command::Back,
        Char('?') => Command::Back, Char('e') => Command::Back];
};

const COPYING: &[Binding] = bindings! {
    "f", "the fix", [Char('f') => Command::CopyFix, Char('y') => Command::CopyFix];
    "p", "the pid", [Char('p') => Command::CopyPid];
    "m", "the message", [Char('m') => Command::CopyMessage];
    "j", "the session as JSON", [Char('j') => Command::CopyJson];
};

const CONFIRMING: &[Binding] = bindings! {
    "y", "send SIGTERM", [Char('y') => Command::Confirm];
    "Esc", "cancel", [Press::Esc => Command::Back, Char('n') => Command::Back];
};

/// The bindings that apply in a mode and view, in groups with a heading each.
pub fn tables(mode: Mode, view: View) -> Vec<(&'static str, &'static [Binding])> {
    let here = match view {
        View::Sessions => ("sessions", SESSIONS),
        View::Session => ("session", SESSION),
        View::Findings => ("findings", FINDINGS),
        View::Host => ("host", &[] as &[Binding]),
    };
    match mode {
        Mode::Viewing => vec![
            here,
            ("move", LIST),
            ("time", TIME),
            ("everywhere", EVERYWHERE),
        ],
        Mode::Reading => vec![("popup", POPUP), ("move", LIST)],
        Mode::Copying => vec![("copy", COPYING)],
        Mode::Confirming => vec![("confirm", CONFIRMING), ("move", LIST)],
        Mode::Typing => vec![],
    }
}

/// The command that a key runs in a mode and view.
pub fn command(press: Press, mode: Mode, view: View) -> Option<Command> {
    if mode == Mode::Typing {
        return typed(press);
    }
    let tables = tables(mode, view);
    let mut presses = tables
        .iter()
        .flat_map(|(_, bindings)| *bindings)
        .flat_map(|binding| binding.presses);
    match presses.find(|(bound, _)| *bound == press) {
        Some((_, command)) => Some(*command),
        None if press == Control('c') => Some(Command::Quit),
        // An unbound key must never count as a yes to a question.
        None if matches!(mode, Mode::Copying | Mode::Confirming) => Some(Command::Back),
        None => None,
    }
}

fn typed(press: Press) -> Option<Command> {
    Some(match press {
        Control('c') => Command::Quit,
        Control('u') => Command::EraseAll,
        Control('h') | Press::Backspace => Command::Erase,
        Char(c) => Command::Type(c),
        Press::Enter => Command::Open,
        Press::Esc => Command::Back,
        Press::Up => Command::Move(-1),
        Press::Down => Command::Move(1),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_runs_two_commands_in_one_view() {
        for view in View::ALL {
            for mode in [
                Mode::Viewing,
                Mode::Reading,
                Mode::Copying,
                Mode::Confirming,
            ] {
                let tables = tables(mode, view);
                let all: Vec<_> = tables
                    .iter()
                    .flat_map(|(_, bindings)| *bindings)
                    .flat_map(|binding| binding.presses)
                    .collect();
                for (at, one) in all.iter().enumerate() {
                    let twice = all[at + 1..].iter().find(|other| other.0 == one.0);
                    assert!(twice.is_none(), "{view:?} {mode:?}: {one:?} and {twice:?}");
                }
            }
        }
    }

    #[test]
    fn only_y_confirms() {
        for c in ' '..='~' {
            let command = command(Char(c), Mode::Confirming, View::Session);
            assert_eq!(command == Some(Command::Confirm), c == 'y', "{c}");
        }
    }

    #[test]
    fn typed_text_runs_no_command() {
        assert_eq!(
            command(Char('q'), Mode::Typing, View::Sessions),
            Some(Command::Type('q'))
        );
        assert_eq!(
            command(Control('c'), Mode::Typing, View::Sessions),
            Some(Command::Quit)
        );
    }
}
