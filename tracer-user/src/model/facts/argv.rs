//! Arguments of a program.

use crate::model::view::Visible;

/// Arguments as they came, each ended by a NUL.
#[derive(Debug)]
pub(in crate::model) struct Argv {
    bytes: Box<[u8]>,
    /// The process has more than was kept.
    pub cut: bool,
}

impl Argv {
    pub fn new(bytes: &[u8], cut: bool) -> Self {
        Self {
            bytes: bytes.into(),
            cut,
        }
    }

    pub fn of(record: &tracer_ebpf::Exec) -> Self {
        let len = (record.argv_len as usize).min(record.argv.len());
        Self::new(&record.argv[..len], record.argv_full > record.argv_len)
    }

    /// One text an argument.
    pub fn words(&self) -> Vec<Visible> {
        let bytes = self.bytes.strip_suffix(b"\0").unwrap_or(&self.bytes);
        if self.bytes.is_empty() {
            return Vec::new();
        }
        bytes.split(|byte| *byte == 0).map(Visible::new).collect()
    }

    /// Whether its words say exactly what it holds.
    pub fn is_verbatim(&self) -> bool {
        let mut words = self.bytes.split(|byte| *byte == 0);
        words.all(|word| Visible::new(word).as_bytes() == word)
    }

    /// What comes before `rest`, if this ends with it.
    pub(super) fn before<'a>(&'a self, rest: &Self) -> Option<&'a [u8]> {
        let before = self.bytes.strip_suffix(&*rest.bytes)?;
        (before.ends_with(b"\0") && !rest.bytes.is_empty() && !self.cut).then_some(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_arguments_are_kept() {
        assert_eq!(Argv::new(b"a\0\0b\0", false).words().len(), 3);
        assert_eq!(Argv::new(b"", false).words().len(), 0);
        assert_eq!(Argv::new(b"cut-her", true).words().len(), 1);
    }
}
