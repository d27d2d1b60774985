//! Text that traced processes chose is hostile: it may hold terminal escape sequences, newlines,
//! marks that reverse the reading order, bytes that are no UTF-8. Here it becomes text that shows
//! what it is and does nothing.

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

use serde::{Deserialize, Serialize};

/// Text that is safe to show: no control characters, nothing invisible, nothing that changes the
/// direction of reading. What was replaced shows as `\n`, `\t`, `\r`, `\u{1b}` or, for bytes that
/// are not UTF-8, `\xff`. A backslash stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Cow<str>", into = "Box<str>")]
pub struct Visible(Box<str>);

/// What is visible stays as it is, so what was written elsewhere reads back the same and no less safe.
impl From<Cow<'_, str>> for Visible {
    fn from(text: Cow<'_, str>) -> Self {
        Self::new(text.as_bytes())
    }
}

impl From<Visible> for Box<str> {
    fn from(text: Visible) -> Self {
        text.0
    }
}

impl Visible {
    /// Makes `bytes` visible.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let mut out = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                push(&mut out, c);
            }
            for byte in chunk.invalid() {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
        Self(out.into_boxed_str())
    }

    /// The same of a field that ends at its first NUL.
    #[must_use]
    pub fn field(bytes: &[u8]) -> Self {
        Self::new(until_nul(bytes))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::ops::Deref for Visible {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Visible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What comes before the first NUL.
pub(in crate::model) fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    &bytes[..end]
}

fn push(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if hides(c) => {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
        c => out.push(c),
    }
}

/// Whether a character acts on the terminal or on the reader instead of being seen.
fn hides(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}'                    // soft hyphen
            | '\u{61c}'                 // Arabic letter mark
            | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' // Hangul fillers
            | '\u{180e}'                // Mongolian vowel separator
            | '\u{200b}'..='\u{200f}'   // zero width, left-to-right and right-to-left marks
            | '\u{2028}'..='\u{202e}'   // line and paragraph separator, bidi embedding
            | '\u{2060}'..='\u{206f}'   // word joiner, bidi isolates, deprecated format characters
            | '\u{fe00}'..='\u{fe0f}'   // variation selectors
            | '\u{feff}'                // byte order mark
            | '\u{fff9}'..='\u{fffb}'   // interlinear annotation
            | '\u{1d173}'..='\u{1d17a}' // musical format characters
            | '\u{e0000}'..='\u{e0fff}' // tags, more variation selectors
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_shown_instead() {
        let shown = |bytes: &[u8]| Visible::new(bytes).as_str().to_owned();
        assert_eq!(shown(b"\x1b[2J\x07"), "\\u{1b}[2J\\u{7}");
        assert_eq!(shown(b"two\nlines\tand\r"), "two\\nlines\\tand\\r");
        assert_eq!(shown("\u{9b}31m".as_bytes()), "\\u{9b}31m");
        assert_eq!(
            shown("a\u{202e}b\u{2066}c\u{200f}".as_bytes()),
            "a\\u{202e}b\\u{2066}c\\u{200f}"
        );
        assert_eq!(shown(b"caf\xe9 \xff\xfe"), "caf\\xe9 \\xff\\xfe");
        assert_eq!(shown("naïve 日本 🦀".as_bytes()), "naïve 日本 🦀");
        assert_eq!(shown(b"printf 'a\\n'"), "printf 'a\\n'");
    }

    #[test]
    fn what_was_written_reads_back_the_same_and_nothing_hostile_gets_in_that_way() {
        let shown = Visible::new(b"caf\xe9 \x1b[2J\\n");
        let json = serde_json::to_string(&shown).unwrap();
        assert_eq!(serde_json::from_str::<Visible>(&json).unwrap(), shown);
        let hostile: Visible = serde_json::from_str(r#""a\u001b[2J""#).unwrap();
        assert_eq!(hostile.as_str(), "a\\u{1b}[2J");
    }

    #[test]
    fn a_field_ends_at_its_nul() {
        assert_eq!(Visible::field(b"sleep\0\0\0junk").as_str(), "sleep");
        assert_eq!(
            Visible::field(b"sixteen-bytes-xx").as_str(),
            "sixteen-bytes-xx"
        );
    }
}
