//! Tests that cannot run here say so: `cargo xtask test` counts these lines, and allows none as root.

use std::io::{self, Write as _};

/// Says that the test `name` does not run, and why.
pub fn skipped(name: &str, why: &str) {
    // Not `eprintln`, which libtest captures.
    let line = format!("skipped: {name}: {why}\n");
    io::stderr()
        .write_all(line.as_bytes())
        .expect("stderr is open");
}
