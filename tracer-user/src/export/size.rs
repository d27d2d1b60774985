//! Sizes for people.

use std::{borrow::Cow, sync::LazyLock};

use bytesize::ByteSize;
use regex::{Captures, Regex};

/// So many bytes in IEC units (`38.6 KiB`), or `exact`ly.
#[must_use]
pub fn size(bytes: u64, exact: bool) -> String {
    match exact {
        true => format!("{bytes} B"),
        false => ByteSize(bytes).display().iec().to_string(),
    }
}

/// A text with its sizes in IEC units, but for what is quoted: that is a command.
#[must_use]
pub fn readable(text: &str) -> Cow<'_, str> {
    static BYTES: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\b(\d{4,}) B\b").ok());
    let Some(bytes) = BYTES.as_ref().filter(|bytes| bytes.is_match(text)) else {
        return Cow::Borrowed(text);
    };
    let iec = |found: &Captures<'_>| match found[1].parse() {
        Ok(bytes) => size(bytes, false),
        Err(_) => found[0].to_owned(),
    };
    let parts = text.split('`').enumerate().map(|(at, part)| match at % 2 {
        0 => bytes.replace_all(part, iec),
        _ => Cow::Borrowed(part),
    });
    Cow::Owned(parts.collect::<Vec<_>>().join("`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_iec_but_in_quotes() {
        assert_eq!(
            readable("`head -c 4096 B`: 39488 B unread, 7 B lost, 1023 B, 1048576 B"),
            "`head -c 4096 B`: 38.6 KiB unread, 7 B lost, 1023 B, 1.0 MiB"
        );
        assert_eq!(size(39_488, true), "39488 B");
    }
}
