//! Parses the file strictly: an unknown key is a mistake. A mistake is reported with its line, what was
//! expected and what may have been meant.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Config,
    hook::{Draft, HOOK},
    settings::{Key, SETTINGS},
};

/// How similar an unknown key and a known one must be for a suggestion (Jaro-Winkler).
const ALIKE: f64 = 0.8;
/// The array of tables.
const HOOKS: &str = "hook";

/// The configuration in `text`, or every mistake in it.
pub(super) fn config(text: &str, file: &str) -> Result<Config, Vec<String>> {
    let mut parser = Parser {
        text,
        mistakes: Vec::new(),
    };
    let mut config = Config::default();
    match DeTable::parse(text) {
        Ok(table) => parser.file(table.get_ref(), &mut config),
        Err(error) => parser.mistake(error.span().unwrap_or_default(), error.message()),
    }
    let mut mistakes = parser.mistakes;
    mistakes.sort();
    match mistakes.is_empty() {
        true => Ok(config),
        false => Err(mistakes
            .iter()
            .map(|(line, what)| format!("{file}:{line}: {what}"))
            .collect()),
    }
}

struct Parser<'a> {
    text: &'a str,
    /// By line, from 1.
    mistakes: Vec<(usize, String)>,
}

impl Parser<'_> {
    fn file(&mut self, table: &DeTable<'_>, config: &mut Config) {
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            match value.get_ref() {
                DeValue::Table(section) if is_section(name) => {
                    self.table(section, name, SETTINGS, config);
                }
                DeValue::Array(hooks) if name == HOOKS => {
                    for hook in hooks.iter() {
                        config.hooks.extend(self.hook(hook));
                    }
                }
                _ if is_section(name) => {
                    self.mistake(
                        key.span(),
                        &format!("`{name}` is a section: write [{name}]"),
                    );
                }
                _ if name == HOOKS => {
                    self.mistake(key.span(), "a hook is written [[hook]]");
                }
                DeValue::Table(_) => {
                    let sections = sections().map(|name| format!("[{name}]"));
                    let known = sections.chain(["[[hook]]".to_owned()]);
                    self.unknown(key.span(), &format!("[{name}]"), "section", known.collect());
                }
                _ => self.value(key, value, "", SETTINGS, config),
            }
        }
    }

    fn hook(&mut self, value: &Spanned<DeValue<'_>>) -> Option<super::Hook> {
        let Some(table) = value.get_ref().as_table() else {
            self.mistake(value.span(), "a hook is written [[hook]]");
            return None;
        };
        let before = self.mistakes.len();
        let mut draft = Draft::default();
        self.table(table, HOOKS, HOOK, &mut draft);
        let hook = draft.finish();
        if hook.is_none() && self.mistakes.len() == before {
            self.mistake(
                value.span(),
                "this hook does nothing: it needs a command or a url",
            );
        }
        hook
    }

    fn table<T>(&mut self, table: &DeTable<'_>, section: &str, keys: &[Key<T>], to: &mut T) {
        for (key, value) in table {
            self.value(key, value, section, keys, to);
        }
    }

    fn value<T>(
        &mut self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        section: &str,
        keys: &[Key<T>],
        to: &mut T,
    ) {
        let name = key.get_ref().as_ref();
        let known = |it: &&Key<T>| it.section() == section && it.name() == name;
        let Some(known) = keys.iter().find(known) else {
            return self.unknown_key(key.span(), name, section, keys);
        };
        if let Err(found) = (known.read)(to, value.get_ref()) {
            let expected = known.expected;
            let what = format!("{}: expected {expected}; {found}", known.full);
            self.mistake(value.span(), &what);
        }
    }

    fn unknown_key<T>(&mut self, at: Range<usize>, name: &str, section: &str, keys: &[Key<T>]) {
        if let Some(elsewhere) = SETTINGS.iter().find(|key| key.name() == name) {
            let place = match elsewhere.section() {
                "" => "before the first section".to_owned(),
                section => format!("in [{section}]"),
            };
            return self.mistake(at, &format!("`{name}` belongs {place}"));
        }
        let own = keys.iter().filter(|key| key.section() == section);
        let known = own.map(|key| format!("`{}`", key.name())).collect();
        self.unknown(at, &format!("`{name}`"), "key", known);
    }

    fn unknown(&mut self, at: Range<usize>, name: &str, what: &str, known: Vec<String>) {
        let alike = |known: &&String| strsim::jaro_winkler(name, known);
        let nearest = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)));
        let hint = match nearest.filter(|known| alike(known) >= ALIKE) {
            Some(known) => format!("did you mean {known}?"),
            None => format!("valid are {}", known.join(", ")),
        };
        self.mistake(at, &format!("unknown {what} {name}; {hint}"));
    }

    fn mistake(&mut self, at: Range<usize>, what: &str) {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        self.mistakes.push((line, what.to_owned()));
    }
}

fn is_section(name: &str) -> bool {
    !name.is_empty() && SETTINGS.iter().any(|key| key.section() == name)
}

/// Each once, in order.
fn sections() -> impl Iterator<Item = &'static str> {
    let mut sections: Vec<_> = SETTINGS.iter().map(Key::section).collect();
    sections.dedup();
    sections.into_iter().filter(|section| !section.is_empty())
}
