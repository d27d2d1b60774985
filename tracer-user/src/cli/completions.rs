//! `lastbyte completions`.

use std::io::{self, Write as _};

use super::Completions;

impl Completions {
    /// Through memory: clap's own writing panics when the reader goes away.
    pub(super) fn print(&self, command: &mut clap::Command) -> io::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, "lastbyte", &mut script);
        io::stdout().write_all(&script)
    }
}
