//! `lastbyte completions`.

use std::io;

use super::Completions;

impl Completions {
    pub(super) fn print(&self, command: &mut clap::Command) {
        clap_complete::generate(self.shell, command, "lastbyte", &mut io::stdout());
    }
}
