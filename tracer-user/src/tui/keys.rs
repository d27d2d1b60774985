//! What keys mean: one table for the keyboard and for what `?` shows.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::state::{Mode, Place};

/// What a user can want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Another view.
    Show(Place),
    /// The next view, the one before.
    NextView,
    PreviousView,
    /// Up or down by so many lines.
    Move(i32),
    /// By pages, in halves.
    Page(i32),
    Top,
    Bottom,
    /// Left or right in time.
    Pan(i32),
    /// Closer, or farther.
    Zoom(i32),
    ZoomOut,
    Open,
    Back,
    Filter,
    Sort,
    Reverse,
    Group,
    Kinds,
    Quiet,
    Pause,
    /// To what happened next, or before.
    Step(i32),
    /// By so many seconds.
    Seek(i32),
    NextFinding,
    PreviousFinding,
    Newest,
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
    /// One more character of what is being typed.
    Type(char),
    Erase,
    EraseAll,
}

/// Keys, and what they do where they do.
pub struct Key {
    /// As it is written.
    pub keys: &'static str,
    /// In a few words.
    pub does: &'static str,
    codes: &'static [(KeyCode, KeyModifiers, Command)],
}

const NONE: KeyModifiers = KeyModifiers::NONE;
const CONTROL: KeyModifiers = KeyModifiers::CONTROL;

const fn char(c: char, command: Command) -> (KeyCode, KeyModifiers, Command) {
    (KeyCode::Char(c), NONE, command)
}

const fn control(c: char, command: Command) -> (KeyCode, KeyModifiers, Command) {
    (KeyCode::Char(c), CONTROL, command)
}

const fn code(code: KeyCode, command: Command) -> (KeyCode, KeyModifiers, Command) {
    (code, NONE, command)
}

macro_rules! keys {
    ($($keys:literal, $does:literal, [$($code:expr),+ $(,)?];)+) => {
        &[$(Key { keys: $keys, does: $does, codes: &[$($code),+] }),+]
    };
}

/// Everywhere.
const EVERYWHERE: &[Key] = keys! {
    "1 2 3 4", "sessions, session, findings, host", [
        char('1', Command::Show(Place::Sessions)), char('2', Command::Show(Place::Session)),
        char('3', Command::Show(Place::Findings)), char('4', Command::Show(Place::Host))];
    "Tab", "next view; Shift-Tab the one before", [
        code(KeyCode::Tab, Command::NextView), code(KeyCode::BackTab, Command::PreviousView)];
    "e", "explain it", [char('e', Command::Explain)];
    "y", "copy: the fix, the pid, the message, the session as JSON", [char('y', Command::Copy)];
    "w", "write the session to a file, as JSON lines", [char('w', Command::Export)];
    "K", "send SIGTERM to the holder (--allow-signals)", [char('K', Command::Signal)];
    "?", "these keys", [char('?', Command::Help), code(KeyCode::F(1), Command::Help)];
    "q", "quit", [char('q', Command::Quit), control('c', Command::Quit)];
    "^Z", "suspend", [control('z', Command::Suspend)];
    "^L", "draw anew", [control('l', Command::Redraw)];
};

/// Everywhere: which moment is shown.
const TIME: &[Key] = keys! {
    "space", "pause, play on", [char(' ', Command::Pause)];
    "n N", "to the next finding, the one before", [
        char('n', Command::NextFinding), char('N', Command::PreviousFinding)];
    ". ,", "to what happened next, before", [
        char('.', Command::Step(1)), char(',', Command::Step(-1))];
    "] [", "10 s on, back; } { a minute", [
        char(']', Command::Seek(10)), char('[', Command::Seek(-10)),
        char('}', Command::Seek(60)), char('{', Command::Seek(-60))];
    "> <", "play faster, slower", [char('>', Command::Faster), char('<', Command::Slower)];
    "L", "live again: the latest moment", [char('L', Command::Newest)];
};

/// Where there is a list.
const LIST: &[Key] = keys! {
    "↑ ↓ k j", "up, down", [
        code(KeyCode::Up, Command::Move(-1)), code(KeyCode::Down, Command::Move(1)),
        char('k', Command::Move(-1)), char('j', Command::Move(1))];
    "PgUp PgDn", "a page; ^U ^D half of one", [
        code(KeyCode::PageUp, Command::Page(-2)), code(KeyCode::PageDown, Command::Page(2)),
        control('b', Command::Page(-2)), control('f', Command::Page(2)),
        control('u', Command::Page(-1)), control('d', Command::Page(1))];
    "g G", "first, last", [
        char('g', Command::Top), code(KeyCode::Home, Command::Top),
        char('G', Command::Bottom), code(KeyCode::End, Command::Bottom)];
};

const SESSIONS: &[Key] = keys! {
    "⏎ l", "open the session", [
        code(KeyCode::Enter, Command::Open), char('l', Command::Open),
        code(KeyCode::Right, Command::Open)];
    "/", "filter by user, peer, command, id, state", [char('/', Command::Filter)];
    "s r", "sort by the next column, reverse", [
        char('s', Command::Sort), char('r', Command::Reverse)];
    "b", "group by user, peer, verdict", [char('b', Command::Group)];
    "Esc", "no filter", [code(KeyCode::Esc, Command::Back)];
};

const SESSION: &[Key] = keys! {
    "+ -", "closer, farther", [
        char('+', Command::Zoom(1)), char('=', Command::Zoom(1)), char('-', Command::Zoom(-1))];
    "← → h l", "earlier, later", [
        code(KeyCode::Left, Command::Pan(-1)), code(KeyCode::Right, Command::Pan(1)),
        char('h', Command::Pan(-1)), char('l', Command::Pan(1))];
    "0", "the whole time", [char('0', Command::ZoomOut)];
    "Esc", "back to the list", [
        code(KeyCode::Esc, Command::Back), code(KeyCode::Backspace, Command::Back)];
};

const FINDINGS: &[Key] = keys! {
    "⏎ l", "open its session", [
        code(KeyCode::Enter, Command::Open), char('l', Command::Open),
        code(KeyCode::Right, Command::Open)];
    "f", "only of the next kind", [char('f', Command::Kinds)];
    "a", "ordinary ones too: near misses, clients that left", [char('a', Command::Quiet)];
};

/// While something is open above the view.
const ABOVE: &[Key] = keys! {
    "Esc", "close", [
        code(KeyCode::Esc, Command::Back), char('q', Command::Back),
        code(KeyCode::Enter, Command::Back), char('?', Command::Back), char('e', Command::Back)];
};

const COPYING: &[Key] = keys! {
    "f", "the fix", [char('f', Command::CopyFix), char('y', Command::CopyFix)];
    "p", "the pid", [char('p', Command::CopyPid)];
    "m", "the message", [char('m', Command::CopyMessage)];
    "j", "the session as JSON", [char('j', Command::CopyJson)];
};

const CONFIRMING: &[Key] = keys! {
    "y", "send it", [char('y', Command::Confirm)];
    "Esc", "do not", [code(KeyCode::Esc, Command::Back), char('n', Command::Back)];
};

/// Groups of keys that do something where the user is, with their headings.
pub fn tables(mode: Mode, place: Place) -> Vec<(&'static str, &'static [Key])> {
    let here = match place {
        Place::Sessions => ("this view", SESSIONS),
        Place::Session => ("this view", SESSION),
        Place::Findings => ("this view", FINDINGS),
        Place::Host => ("this view", &[] as &[Key]),
    };
    match mode {
        Mode::Viewing => vec![
            here,
            ("list", LIST),
            ("time", TIME),
            ("everywhere", EVERYWHERE),
        ],
        Mode::Reading => vec![("here", ABOVE), ("list", LIST)],
        Mode::Copying => vec![("copy", COPYING)],
        Mode::Confirming => vec![("confirm", CONFIRMING), ("list", LIST)],
        Mode::Typing => vec![],
    }
}

/// What a key means to a user who is there.
pub fn command(key: KeyEvent, mode: Mode, place: Place) -> Option<Command> {
    if mode == Mode::Typing {
        return typed(key);
    }
    let wanted = key.modifiers & CONTROL;
    let tables = tables(mode, place);
    let mut codes = tables
        .iter()
        .flat_map(|(_, keys)| *keys)
        .flat_map(|it| it.codes);
    let found = codes.find(|(code, modifiers, _)| *code == key.code && *modifiers == wanted);
    match found {
        Some((_, _, command)) => Some(*command),
        None if wanted == CONTROL && key.code == KeyCode::Char('c') => Some(Command::Quit),
        // Whatever else is pressed while something is asked, it is not yes.
        None if matches!(mode, Mode::Copying | Mode::Confirming) => Some(Command::Back),
        None => None,
    }
}

fn typed(key: KeyEvent) -> Option<Command> {
    let control = key.modifiers.contains(CONTROL);
    Some(match key.code {
        KeyCode::Char('c') if control => Command::Quit,
        KeyCode::Char('u') if control => Command::EraseAll,
        KeyCode::Char('h') if control => Command::Erase,
        KeyCode::Char(c) if !control => Command::Type(c),
        KeyCode::Backspace => Command::Erase,
        KeyCode::Enter => Command::Open,
        KeyCode::Esc => Command::Back,
        KeyCode::Up => Command::Move(-1),
        KeyCode::Down => Command::Move(1),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: [Place; 4] = [
        Place::Sessions,
        Place::Session,
        Place::Findings,
        Place::Host,
    ];

    #[test]
    fn no_key_means_two_things_in_one_place() {
        for place in PLACES {
            for mode in [
                Mode::Viewing,
                Mode::Reading,
                Mode::Copying,
                Mode::Confirming,
            ] {
                let tables = tables(mode, place);
                let all: Vec<_> = tables
                    .iter()
                    .flat_map(|(_, keys)| *keys)
                    .flat_map(|it| it.codes)
                    .collect();
                for (at, one) in all.iter().enumerate() {
                    let twice = all[at + 1..]
                        .iter()
                        .find(|other| (other.0, other.1) == (one.0, one.1));
                    assert!(twice.is_none(), "{place:?} {mode:?}: {one:?} and {twice:?}");
                }
            }
        }
    }

    #[test]
    fn only_y_confirms() {
        for c in ' '..='~' {
            let key = KeyEvent::new(KeyCode::Char(c), NONE);
            let command = command(key, Mode::Confirming, Place::Session);
            assert_eq!(command == Some(Command::Confirm), c == 'y', "{c}");
        }
    }

    #[test]
    fn what_is_typed_commands_nothing() {
        let key = |c| KeyEvent::new(KeyCode::Char(c), NONE);
        assert_eq!(
            command(key('q'), Mode::Typing, Place::Sessions),
            Some(Command::Type('q'))
        );
        let quit = KeyEvent::new(KeyCode::Char('c'), CONTROL);
        assert_eq!(
            command(quit, Mode::Typing, Place::Sessions),
            Some(Command::Quit)
        );
    }
}
