//! Command lines as a shell reads them.

use std::borrow::Cow;

use crate::model::view::Visible;

/// One word in the shell's writing.
pub(in crate::model) fn shell_word(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    // Only a NUL cannot be quoted, and that is not visible.
    shlex::try_quote(word).unwrap_or_default()
}

/// A command that a shell runs as it is. Its first word is quoted where the shell would not take it for
/// the name of a program.
pub(in crate::model) fn shell_command<'a>(words: impl IntoIterator<Item = &'a Visible>) -> String {
    let mut words = words.into_iter();
    let program = words.next().map_or("", Visible::as_str);
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_+./-".contains(c);
    let mut line = match shell_word(program) {
        Cow::Borrowed(plain) if RESERVED.contains(&plain) || !plain.chars().all(is_name) => {
            format!("'{plain}'")
        }
        word => word.into_owned(),
    };
    for word in words {
        line.push(' ');
        line.push_str(&shell_word(word));
    }
    line
}

/// Words that begin something else than a command.
const RESERVED: [&str; 17] = [
    "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in",
    "select", "then", "time", "until", "while",
];

/// A command line in the shell's writing; `…` stands for what was cut.
pub(in crate::model) fn shell_line<'a>(
    words: impl Iterator<Item = &'a Visible>,
    cut: bool,
) -> String {
    let mut line = words
        .map(|word| shell_word(word))
        .collect::<Vec<_>>()
        .join(" ");
    if cut {
        line.push_str(" …");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_the_shell_where_needed() {
        assert_eq!(shell_word("--level=3"), "--level=3");
        assert_eq!(shell_word(""), "''");
        assert_eq!(shell_word("it's"), "\"it's\"");
        assert_eq!(
            shell_command(&[Visible::new(b"A=1"), Visible::new(b"b=2")]),
            "'A=1' b=2"
        );
        assert_eq!(shell_command(&[Visible::new(b"if")]), "'if'");
        let words = [
            Visible::new(b"bash"),
            Visible::new(b"-c"),
            Visible::new(b"sleep 20 &"),
        ];
        assert_eq!(shell_line(words.iter(), false), "bash -c 'sleep 20 &'");
        assert_eq!(shell_line(words[..1].iter(), true), "bash …");
    }
}
