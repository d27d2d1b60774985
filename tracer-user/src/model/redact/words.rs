//! Secrets that are told by the words before them: options, assignments, a program's own ways. Words
//! are arguments, or those of a script within an argument.

use std::{ops::Range, sync::LazyLock};

use regex::bytes::Regex;

use super::{
    program::{self, Taking, Value},
    text::{NAME, regex},
};

/// A script may hold a script: `ssh host 'bash -c "mysql …"'`.
const DEPTH: usize = 6;
/// Programs of one command that are kept in mind, such as `sshpass -p x ssh h mysql -py`.
const PROGRAMS: usize = 4;

/// `--password`, whose value is the next word.
static OPTION: LazyLock<Regex> = LazyLock::new(|| regex(&format!(r"^--?{NAME}$")));
/// Options that only look so: they ask, or say that there is none.
static ASKS: LazyLock<Regex> = LazyLock::new(|| regex(r"^--?(?:no|ask|without|prompt)[-_]"));
/// `--password=…`, `PASSWORD=…`, `password: …`: the word is nothing else.
static WHOLE: LazyLock<Regex> = LazyLock::new(|| regex(&format!(r"^{NAME}[=:]")));
/// The same within a word.
static WITHIN: LazyLock<Regex> = LazyLock::new(|| regex(&format!(r"([?&]?){NAME}[=:]")));
/// `-c`, `-lc`: the next word is a script.
static SCRIPT: LazyLock<Regex> = LazyLock::new(|| regex(r"^-[a-z]*c$"));

/// Where secrets are in `argv`, whose words are ended by NULs.
pub(super) fn find(argv: &[u8], secrets: &mut Vec<Range<usize>>) {
    let mut finder = Finder {
        text: argv,
        secrets,
    };
    let mut command = Command::default();
    let mut start = 0;
    for word in argv.split(|byte| *byte == 0) {
        let end = start + word.len();
        finder.word(start..end, &mut command, DEPTH);
        start = end + 1;
    }
}

/// What the words so far say of the next.
#[derive(Default)]
struct Command {
    programs: [Option<&'static [Taking]>; PROGRAMS],
    /// The next word is, or holds, a secret.
    secret: Option<Value>,
    /// The next word is a script.
    script: bool,
}

impl Command {
    fn takings(&self) -> impl Iterator<Item = &'static Taking> + use<> {
        self.programs.into_iter().flatten().flatten()
    }

    /// What a word that is no option ends, and begins.
    fn operand(&mut self, word: &[u8]) {
        for program in &mut self.programs {
            if program.is_some_and(|takings| takings.iter().any(|taking| taking.leading)) {
                *program = None;
            }
        }
        if let Some(named) = program::named(word)
            && let Some(free) = self.programs.iter_mut().find(|program| program.is_none())
        {
            *free = Some(named);
        }
    }
}

struct Finder<'a> {
    text: &'a [u8],
    secrets: &'a mut Vec<Range<usize>>,
}

impl Finder<'_> {
    fn word(&mut self, raw: Range<usize>, command: &mut Command, depth: usize) {
        let awaited = command.secret.take();
        let is_script = std::mem::take(&mut command.script);
        let is_escaped = matches!(self.text.get(raw.start), Some(b'"' | b'\\'));
        let range = unquoted(self.text, raw.clone());
        let word = &self.text[range.clone()];
        if let Some(value) = awaited {
            self.value(raw, range.clone(), value);
            // A secret may look like an option, and an option may have no secret after all.
            if !word.starts_with(b"-") {
                return;
            }
        }
        if OPTION.is_match(word) {
            if !ASKS.is_match(word) {
                command.secret = Some(Value::Whole);
            }
            return;
        }
        for taking in command.takings() {
            let Some(at) = taking.value_in(word) else {
                continue;
            };
            if at == word.len() {
                command.secret = Some(taking.value);
            } else {
                let attached = range.start + at..range.end;
                self.value(attached.clone(), attached, taking.value);
            }
        }
        if SCRIPT.is_match(word) {
            command.script = true;
        }
        if !word.starts_with(b"-") && awaited.is_none() {
            command.operand(word);
        }
        let whole = WHOLE.find(word).filter(|_| !(is_script && has_words(word)));
        if let Some(name) = whole {
            if name.end() == word.len() {
                command.secret = Some(Value::Whole);
            }
            self.secrets.push(range.start + name.end()..range.end);
        } else if has_words(word) && depth > 0 {
            self.script(range, is_escaped, depth - 1);
        } else {
            self.assignments(range, command);
        }
    }

    /// Looks for assignments within a word.
    fn assignments(&mut self, range: Range<usize>, command: &mut Command) {
        let word = &self.text[range.clone()];
        for found in WITHIN.captures_iter(word) {
            let [whole, before] = [0, 1].map(|group| found.get(group).map(|it| it.range()));
            let (Some(whole), Some(before)) = (whole, before) else {
                continue;
            };
            let value = &word[whole.end..];
            if value.is_empty() {
                command.secret = Some(Value::Whole);
            }
            // One of a URL's parameters ends where the next begins.
            let len = match before.is_empty() {
                true => value.len(),
                false => until(value, |byte| byte == b'&' || byte == b'#'),
            };
            let start = range.start + whole.end;
            self.secrets.push(start..start + len);
        }
    }

    /// Looks at the words of a script, as a shell would see them. `is_escaped`: it stands in double
    /// quotes, so that its own quotes have backslashes before them.
    fn script(&mut self, range: Range<usize>, is_escaped: bool, depth: usize) {
        let mut command = Command::default();
        let mut at = range.start;
        while at < range.end {
            let byte = self.text[at];
            if is_separator(byte) {
                command = Command::default();
                at += 1;
            } else if byte.is_ascii_whitespace() {
                at += 1;
            } else {
                let end = word_end(&self.text[..range.end], at, is_escaped);
                self.word(at..end, &mut command, depth);
                at = end;
            }
        }
    }

    /// Marks what is secret of a value, `raw` with its quotes.
    fn value(&mut self, raw: Range<usize>, range: Range<usize>, value: Value) {
        match value {
            Value::Whole => self.secrets.push(raw),
            Value::After(separator) => {
                let value = &self.text[range.clone()];
                let at = until(value, |byte| byte == separator) + 1;
                if at < value.len() {
                    self.secrets.push(range.start + at..range.end);
                }
            }
        }
    }
}

fn has_words(word: &[u8]) -> bool {
    word.iter().any(u8::is_ascii_whitespace)
}

fn until(bytes: &[u8], is_end: impl Fn(u8) -> bool) -> usize {
    let end = bytes.iter().position(|byte| is_end(*byte));
    end.unwrap_or(bytes.len())
}

/// Without the quotes around it, also those that are themselves in quotes.
fn unquoted(text: &[u8], range: Range<usize>) -> Range<usize> {
    let is_quote = |byte: &u8| b"\"'\\".contains(byte);
    let word = &text[range.clone()];
    let start = word.iter().take_while(|byte| is_quote(byte)).count();
    if start == 0 {
        return range;
    }
    let rest = &word[start..];
    let end = rest.iter().rev().take_while(|byte| is_quote(byte)).count();
    range.start + start..range.end - end
}

/// Where another command begins.
fn is_separator(byte: u8) -> bool {
    b";|&()`\n".contains(&byte)
}

/// Where a shell's word ends that begins at `start`: quotes and backslashes hold it together. A
/// quote that is never closed holds together what is left.
fn word_end(text: &[u8], start: usize, is_escaped: bool) -> usize {
    let mut quote = None;
    let mut at = start;
    while at < text.len() {
        let byte = text[at];
        match quote {
            None if byte.is_ascii_whitespace() || is_separator(byte) => return at,
            None | Some(b'"') if byte == b'\\' => at += usize::from(!is_escaped),
            None if byte == b'"' || byte == b'\'' => quote = Some(byte),
            Some(open) if byte == open => quote = None,
            _ => {}
        }
        at += 1;
    }
    text.len()
}
